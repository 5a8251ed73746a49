"""The command `python -m unmask.sweep`: its flags, and how it ends when something is wrong."""

import argparse
import errno
import os
import time
from pathlib import Path

import pytest
from rich.console import Console
from safetensors import SafetensorError

import unmask.attention
import unmask.results.ledger
import unmask.saving
import unmask.training.checkpoint
import unmask.training.fit
from unmask.config import gray_codes
from unmask.recipe import PRESETS
from unmask.results.ledger import Ledger
from unmask.sweep.__main__ import add_flags, main, one_by_one, recipe_from, settings_from

SAID_ON_THE_WAY = (
    "note: ",
    "recipe: ",
    "backbone: ",
    "runs per ",
    "done: ",
    "chosen on ",
    "a labeler ",
)
GOOD = "EU B-ORG\nrejects O\n\nAnna B-PER\n"


@pytest.fixture
def fails(capsys):
    """`fails(argv)`: the exit code and the one line that a failing command ends with."""

    def run(argv: list[str]) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        said = capsys.readouterr()
        assert said.out == ""
        *before, last = said.err.splitlines()
        odd = [line for line in before if not line.startswith(SAID_ON_THE_WAY)]
        assert [line for line in odd if "already in" not in line] == []
        assert last.startswith("python -m unmask.sweep: error: ")
        return ended.value.code, last.removeprefix("python -m unmask.sweep: error: ")

    return run


@pytest.fixture
def small(data_dir, tmp_path):
    """Flags of a sweep that takes a second."""
    return [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")),
        *("--configs", "0000,0110", "--seeds", "120", "--max-steps", "2"),
    ]


@pytest.fixture
def without_pages(monkeypatch):
    """Figures are most of the time of a small sweep."""
    monkeypatch.setattr("unmask.sweep.outputs.write_outputs", lambda ledger, folder: [])


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(argv)


def settings_of(*argv: str):
    [only] = one_by_one(parsed(*argv))
    return settings_from(only, Console(stderr=True))


def folder_of(tmp_path: Path, **files: str | bytes) -> list[str]:
    """Flags for a folder of GOOD files, some of them replaced."""
    for name in ("train", "dev", "test"):
        content = files.get(name, GOOD)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"{name}.txt").write_bytes(data)
    return ["--task", "mine", "--data-dir", str(tmp_path)]


def test_without_flags_it_is_the_embedded_corpus_and_backbone():
    settings = settings_of()
    assert (settings.model, settings.task, settings.baselines) == ("tiny", "lookright", ())
    assert settings.configs == gray_codes(4)
    assert settings.seeds == (120, 121, 122, 123, 124)
    assert settings.recipe == PRESETS["tiny"]
    assert settings.out == Path("results/tiny-lookright")
    assert settings.fuse is None


def test_a_flag_of_the_recipe_overrides_its_preset():
    recipe = recipe_from(parsed("--preset", "quick", "--lora-rank", "8", "--max-steps", "7"))
    assert (recipe.preset, recipe.lora_rank, recipe.max_steps) == ("quick", 8, 7)
    assert recipe.learning_rate == PRESETS["quick"].learning_rate


def test_preset_is_the_papers_for_every_backbone_but_tiny():
    assert recipe_from(parsed("--model", "mistral-7b")) == PRESETS["paper"]
    assert recipe_from(parsed("--model", "mistral-7b", "--quantization", "none")).quantization is (
        None
    )
    assert recipe_from(parsed("--no-gradient-checkpointing")).gradient_checkpointing is False


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("0000,0110", ("0000", "0110")),
        ("layers:0,1,5-7", ("layers:0,1,5-7",)),
        ("0000;layers:0,1;layers:2", ("0000", "layers:0,1", "layers:2")),
        (" 0000 , 1111 ", ("0000", "1111")),
    ],
)
def test_codes_are_separated_by_commas_and_layer_sets_by_semicolons(text, codes):
    assert parsed("--configs", text).configs == codes


def test_hub_ids_and_folders_become_one_folder_name(tmp_path):
    (tmp_path / "model").mkdir()
    [hub] = one_by_one(parsed("--model", "owner/name", "--task", "t"))
    [local] = one_by_one(parsed("--model", str(tmp_path / "model"), "--task", "t"))
    assert (hub.out, local.out) == (Path("results/owner--name-t"), Path("results/model-t"))


def test_several_models_and_tasks_are_every_pair_of_them_in_one_folder(tmp_path):
    flags = parsed("--model", "a/b,c/d", "--task", "x, y", "--data-dir", str(tmp_path))
    pairs = one_by_one(flags)
    assert [(one.model, one.task) for one in pairs] == [
        ("a/b", "x"),
        ("c/d", "x"),
        ("a/b", "y"),
        ("c/d", "y"),
    ]
    assert {one.out for one in pairs} == {Path("results/a--b+c--d-x+y")}
    assert [one.data_dir for one in pairs] == [tmp_path / task for task in ("x", "x", "y", "y")]


@pytest.mark.parametrize(
    ("there", "baselines", "num_notes"),
    [
        ({"roberta-base", "roberta-large", "minilm-l6"}, ("roberta-base", "roberta-large"), 0),
        ({"roberta-base", "minilm-l6"}, ("minilm-l6",), 1),
        (set(), (), 2),
    ],
)
def test_automatic_baselines_are_what_can_be_had_and_say_what_not(
    monkeypatch, capsys, there, baselines, num_notes
):
    def find(name):
        if name not in there | {"mistral-7b"}:
            raise FileNotFoundError(f"no {name}")

    monkeypatch.setattr("unmask.backbones.find_weights", find)
    assert settings_of("--model", "mistral-7b").baselines == baselines
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == num_notes
    assert all(note.startswith("note: no baseline ") for note in notes)


def test_named_baselines_are_taken_as_they_are():
    assert settings_of("--baselines", "roberta-base, minilm-l6").baselines == (
        "roberta-base",
        "minilm-l6",
    )
    assert settings_of("--baselines", "none").baselines == ()


def test_results_go_to_stdout_and_everything_else_to_stderr(small, capsys, tmp_path):
    main(small)
    said = capsys.readouterr()
    out = tmp_path / "out"
    tables = ("report.tex", "configurations.csv", "runs.csv")
    written = [str(out / name) for name in ("report.html", "report.md", *tables, "figure.png")]
    lines = said.out.splitlines()
    table = lines[: -len(written)]
    assert lines[-len(written) :] == written
    assert all(Path(path).stat().st_size > 0 for path in written)
    assert any("0000" in line for line in table)
    assert any("0110" in line for line in table)
    lines = said.err.splitlines()
    done = next(line for line in lines if line.startswith("done: "))
    assert done.startswith("done: tiny/small/0000/seed120, validation F1 0.")
    # One line each, however narrow the terminal: a log can be searched.
    assert sum(line.startswith("recipe: preset=tiny, ") for line in lines) == 1


def test_dry_run_says_what_there_is_to_do_and_writes_nothing(small, capsys, tmp_path):
    main([*small, "--dry-run"])
    runs = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:] for line in runs[:2]] == [
        ["to do", "tiny/small/0000/seed120"],
        ["to do", "tiny/small/0110/seed120"],
    ]
    assert runs[2] == "tiny: 2 of 2 runs to do"
    assert runs[3].startswith("estimated per run: ")
    assert runs[4].startswith("estimated memory: ")
    assert "2 runs at a time" in runs[4]
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_done_from_missing_runs(small, capsys, without_pages):
    main(small)
    capsys.readouterr()
    main([*small, "--seeds", "120,121", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[18:23] for line in lines[:4]] == ["done ", "done ", "to do", "to do"]
    assert lines[4] == "tiny: 2 of 4 runs to do"
    main([*small, "--dry-run"])
    assert capsys.readouterr().out.splitlines()[-1] == "tiny: 0 of 2 runs to do"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "mistral7b"], "unknown model 'mistral7b': give one of mistral-7b, "),
        (["--task", "conl03_ner"], "unknown task 'conl03_ner'; did you mean conll03_ner or "),
        (["--configs", "0120"], "unmasking code '0120' is not a string of 0s and 1s; "),
        (["--configs", "0" * 9], "9 groups do not fit 8 layers; use 1 to 8 bits"),
        (["--configs", "layers:8"], "layer 8 does not exist; this model has layers 0 to 7"),
        (["--configs", "0011;layers:4-7"], "--configs: 0011 and layers:4-7 open the same layers"),
        (["--configs", ""], "--configs is empty: name at least one"),
        (["--configs", "0000,0000"], "--configs names 0000 more than once"),
        (["--seeds", "a,b"], "argument --seeds: 'a,b' is not a list of whole numbers; see "),
        (["--seeds", "-1"], "--seeds must not be negative, got -1"),
        (["--preset", "fast"], "argument --preset: invalid choice: 'fast' (choose from "),
        (["--test", "dev"], "argument --test: invalid choice: 'dev' (choose from "),
        (["--fuse", "many"], "--fuse takes a number of runs or auto, got 'many'"),
        (["--fuse", "0"], "--fuse must be at least 1 or auto, got 0"),
        (["--max-steps", "0"], "recipe: max_steps must be a whole number from 1, got 0"),
        (["--learning-rate", "-1"], "recipe: learning_rate must be a finite number above 0"),
        (["--limit-train", "0"], "--limit-train must be at least 1, got 0"),
        (["--limit-validation", "0"], "--limit-validation must be at least 1, got 0"),
        (["--device", "cuda:99"], "there is no device cuda:99: PyTorch sees "),
        (["--device", "quantum"], "unknown device 'quantum'; give cpu, cuda, cuda:1 or mps"),
        (["--checkpoint-seconds", "-3"], "--checkpoint-seconds must be 0 or more, got -3.0"),
        (["--baselines", "robrta-base"], "unknown model 'robrta-base': give one of "),
        (["--validation-from", "nix"], "cannot read 'nix' as a share of a split; "),
        (["--data-dir", "mine"], "task lookright is generated and reads no files: give those in"),
        (
            ["--task", "mine", "--data-dir", "not/there"],
            "the data folder not/there does not exist; ",
        ),
        (["--nix"], "unrecognized arguments: --nix; see python -m unmask.sweep --help"),
    ],
)
def test_wrong_flag_is_one_line_and_exit_code_2(fails, tmp_path, argv, message):
    code, line = fails(["--out", str(tmp_path / "out"), *argv])
    assert line.startswith(message)
    assert code == 2
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ""}, "train.txt: no sentences found when read as "),
        ({"dev": "\n\n"}, "dev.txt: no sentences found when read as "),
        ({"train": "EU\nrejects\n"}, "train.txt:1: one column only; expected a word and its tag"),
        ({"train": GOOD + "Paris"}, "train.txt:5: 1 columns separated by spaces, expected 2"),
        ({"train": GOOD + "Paris B-"}, "train.txt:5: tag 'B-' is neither 'O' nor a prefix and "),
        ({"test": GOOD + "Paris X-LOC\n"}, "test.txt:5: tag 'X-LOC' is neither 'O' nor a prefix"),
        ({"train": "Pérez B-PER\n".encode("latin-1")}, "train.txt:1: byte 0xe9 is not UTF-8; "),
        ({"dev": "EU O\n"}, "the validation split of mine has no labelled span, so every "),
    ],
)
def test_broken_data_is_named_by_file_and_line(fails, tmp_path, files, message):
    code, line = fails([*folder_of(tmp_path, **files), "--out", str(tmp_path / "out")])
    assert message in line
    assert code == 2


def test_label_that_the_task_does_not_have_is_refused(fails, tmp_path):
    folder_of(tmp_path, train="EU B-COMPANY\n")
    code, line = fails(["--task", "conll03_ner", "--data-dir", str(tmp_path)])
    assert "label 'COMPANY' is not one of task conll03_ner (LOC, MISC, ORG, PER)" in line
    assert code == 2


def test_tag_column_that_is_not_there_is_refused(fails, tmp_path):
    code, line = fails([*folder_of(tmp_path), "--column", "7"])
    assert "train.txt:1: " in line
    assert "7" in line
    assert code == 2


def test_stray_tags_are_noted_and_repaired_on_request(tmp_path, capsys):
    flags = folder_of(tmp_path, dev="EU I-ORG\nrejects O\n\nAnna B-PER\n")
    flags += ["--out", str(tmp_path / "out"), "--configs", "0000", "--seeds", "1", "--dry-run"]
    main(flags)
    strict = capsys.readouterr()
    assert "note: dev.txt: 1 stray tags, the first at dev.txt:1; strict reading" in strict.err
    main([*flags, "--repair"])
    repaired = capsys.readouterr()
    assert "dev.txt:1, were repaired into entities, as asked" in repaired.err
    # Other tags are other data, so other runs.
    assert strict.out.split()[0] != repaired.out.split()[0]


@pytest.mark.parametrize("model", ["mistral-7b", "some-owner/some-model"])
def test_no_hub_in_reach_is_said_at_once(fails, monkeypatch, model):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    started = time.monotonic()
    code, line = fails(["--model", model])
    assert time.monotonic() - started < 5
    assert line.startswith(f"the weights of {model} (")
    assert "HF_HUB_OFFLINE is set. Give a local folder as the model, or fetch them" in line
    assert code == 2


def test_folder_without_weights_is_refused(fails, tmp_path):
    code, line = fails(["--model", str(tmp_path)])
    assert line == (
        f"{tmp_path} holds no model: expected a config.json with its weights, or a .gguf file"
    )
    assert code == 2


def test_mask_that_disagrees_is_exit_code_1_and_nothing_in_the_ledger(
    fails, small, monkeypatch, tmp_path
):
    monkeypatch.setattr(unmask.attention, "_layer", lambda module: 0)
    code, line = fails(small)
    assert line.startswith("the mask is not what the configuration says: layer 2 is causal but ")
    assert code == 1
    assert Ledger(tmp_path / "out" / "ledger.jsonl").results() == []


def test_out_of_memory_says_which_flags_help(fails, small, monkeypatch):
    def no_memory(*args, **kwargs):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr("unmask.sweep.stack.fit", no_memory)
    code, line = fails([*small, "--fuse", "1"])
    assert line.startswith("out of memory: make the batch smaller (--batch-size, ")
    assert code == 1


def full_ledger(monkeypatch):
    class FullOs:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, file, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unmask.results.ledger, "os", FullOs())


def full_checkpoint(monkeypatch):
    def write(path, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.partial")

    monkeypatch.setattr(unmask.training.fit, "write_checkpoint", write)


def full_adapter(monkeypatch):
    def save(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(unmask.saving, "save_file", save)


def full_pages(monkeypatch):
    def write(ledger, folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "report.html"))

    monkeypatch.setattr("unmask.sweep.outputs.write_outputs", write)


@pytest.mark.parametrize("fill", [full_ledger, full_checkpoint, full_adapter, full_pages])
def test_full_disk_is_one_line_and_costs_nothing_that_was_done(
    small, monkeypatch, capsys, tmp_path, without_pages, fill
):
    main(small)
    before = (tmp_path / "out" / "ledger.jsonl").read_bytes()
    more = [*small, "--configs", "0000,0110,1111"]
    with monkeypatch.context() as full:
        fill(full)
        with pytest.raises(SystemExit) as ended:
            main(more)
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m unmask.sweep: error: the disk is full or the file too large")
    assert (tmp_path / "out" / "ledger.jsonl").read_bytes().startswith(before)
    main(more)
    ledger = Ledger(tmp_path / "out" / "ledger.jsonl")
    assert len(ledger.results()) == 3
    assert ledger.warnings() == []
    assert not list((tmp_path / "out").rglob("*checkpoint*"))


def test_limit_on_file_size_is_one_line_and_the_sweep_goes_on_without_it(
    warm_python, small, tmp_path
):
    limit = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
"""
    assert warm_python.run(small, limit) == 1
    last = warm_python.log.read_text().splitlines()[-1]
    assert last.startswith("python -m unmask.sweep: error: the disk is full or the file too large")
    assert Ledger(tmp_path / "out" / "ledger.jsonl").results() == []
    assert warm_python.run(small) == 0
    assert len(Ledger(tmp_path / "out" / "ledger.jsonl").results()) == 2


def test_adapter_that_was_removed_before_its_test_scores_is_named(
    fails, small, tmp_path, capsys, without_pages
):
    main([*small, "--test", "none"])
    capsys.readouterr()
    [first, *_] = Ledger(tmp_path / "out" / "ledger.jsonl").results()
    adapter = tmp_path / "out" / "runs" / first.run.id / "adapter_model.safetensors"
    adapter.unlink()
    code, line = fails([*small, "--test", "all"])
    assert f"{adapter.parent} has no adapter_model.safetensors" in line
    assert code == 2


def test_damaged_ledger_is_refused_not_overwritten(fails, small, tmp_path):
    (tmp_path / "out").mkdir()
    ledger = tmp_path / "out" / "ledger.jsonl"
    ledger.write_text("this is\nno ledger\n")
    code, line = fails(small)
    assert f"{ledger}:1 is corrupt" in line
    assert code == 2
    assert ledger.read_text() == "this is\nno ledger\n"


def test_debug_shows_where(small):
    with pytest.raises(ValueError, match="unknown model 'nix'"):
        main([*small, "--model", "nix", "--debug"])


def test_several_rates_and_ranks_are_every_pair_of_them_in_one_folder():
    flags = ("--learning-rates", "1e-4,2e-4", "--lora-ranks", "8,16")
    console = Console(stderr=True)
    found = [settings_from(one, console) for one in one_by_one(parsed(*flags))]
    assert [(one.recipe.lora_rank, one.recipe.learning_rate) for one in found] == [
        (8, 1e-4),
        (8, 2e-4),
        (16, 1e-4),
        (16, 2e-4),
    ]
    assert {one.out for one in found} == {Path("results/tiny-lookright")}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lora-ranks", "8,8"], "--lora-ranks names a value more than once: 8, 8"),
        (
            ["--learning-rates", "1e-3,2e-3", "--learning-rate", "1e-3"],
            "--learning-rates and learning_rate are given both; leave one out",
        ),
        (
            ["--lora-ranks", "4,8", "--recipe.lora-rank=4"],
            "--lora-ranks and lora_rank are given both; leave one out",
        ),
        (
            ["--lora-ranks", "4,8", "--search"],
            "--lora-ranks has no place in a search; say --search-over lora_rank=...",
        ),
    ],
)
def test_rates_and_ranks_that_clash_are_refused(fails, flags, message):
    assert fails(flags) == (2, message)


def test_what_is_no_list_of_rates_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--learning-rates", "1e-3,fast"])
    assert "'1e-3,fast' is not a list of numbers" in capsys.readouterr().err


def test_rates_share_a_stack_and_stand_apart_in_ledger_and_table(small, capsys):
    main([*small, "--learning-rates", "1e-2,2e-2", "--lora-ranks", "2,4"])
    said = capsys.readouterr()
    assert "runs per forward pass: 8," in said.err
    assert said.err.count("recipe: ") == 4
    assert "recipe: the same with learning_rate=0.02\n" in said.err
    assert "small/0110/seed120 (lora rank 4, learning rate 0.02), validation F1" in said.err
    assert said.err.count("chosen on validation: ") == 4
    results = Ledger(Path(small[small.index("--out") + 1]) / "ledger.jsonl").results()
    recipes = [(one.run.recipe.lora_rank, one.run.recipe.learning_rate) for one in results]
    assert sorted(set(recipes)) == [(2, 1e-2), (2, 2e-2), (4, 1e-2), (4, 2e-2)]
    assert len({one.run.id for one in results}) == 8
