from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from unmask.scale import pretrain as module
from unmask.scale.chunks import Batches, Reader
from unmask.scale.language_models import align_head, build
from unmask.scale.pretrain import checkpoint_steps, pretrain
from unmask.training.batches import Schedule
from unmask.training.checkpoint import Progress
from unmask.training.optimizer import build_optimizer


class Stopped(Exception):
    pass


def stopping_at(step):
    """A report that ends training after a step, as a kill would."""

    def report(progress, num_steps):
        if progress.steps == step:
            raise Stopped

    return report


@pytest.fixture
def chunks(tokens, smallest):
    return tokens.chunks(smallest.recipe.max_subtokens)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_weights(
    kind, smallest, chunks, tokenizer, tmp_path
):
    whole = pretrain(kind, smallest, chunks, tokenizer, tmp_path / "whole", "r")
    halves = tmp_path / "halves"
    for step, seconds in ((1, 0), (4, 0), (6, 1e9)):
        with pytest.raises(Stopped):
            pretrain(
                kind,
                smallest,
                chunks,
                tokenizer,
                halves,
                "r",
                report=stopping_at(step),
                checkpoint_seconds=seconds,
            )
    again = pretrain(kind, smallest, chunks, tokenizer, halves, "r", checkpoint_seconds=0)
    assert again.train_loss == whole.train_loss
    last = sorted(path.name for path in halves.glob("[0-9]*"))[-1]
    assert last == "04"
    for name in ("00", "02", last):
        ours, theirs = (
            load_file(tmp_path / side / name / "model.safetensors") for side in ("halves", "whole")
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def weights(folder):
    return load_file(folder / "04" / "model.safetensors")


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_losses_that_are_read_rarely_are_the_same_and_so_are_the_weights(
    kind, smallest, chunks, tokenizer, tmp_path
):
    told = {"often": [], "rarely": []}
    for name, seconds in (("often", 0.0), ("rarely", 1e9)):
        progress = pretrain(
            kind,
            smallest,
            chunks,
            tokenizer,
            tmp_path / name,
            "r",
            report=lambda progress, _, name=name: told[name].append(len(progress.train_loss)),
            read_seconds=seconds,
        )
        told[f"{name}: losses"] = progress.train_loss
    steps = Schedule.of(smallest.recipe, len(chunks)).num_steps
    assert told["often"] == list(range(1, steps + 1))
    # At checkpoints they must be known.
    assert told["rarely"] == checkpoint_steps(Schedule.of(smallest.recipe, len(chunks)), 2)[1:]
    assert told["often: losses"] == told["rarely: losses"]
    ours, theirs = (weights(tmp_path / name) for name in ("often", "rarely"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "shape"), [("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")]
)
def test_compiled_passes_are_captured_whole_and_lead_to_the_same_weights(
    kind, shape, smallest, chunks, tokenizer, tmp_path, monkeypatch
):
    """By the part of `torch.compile` that looks through the model; kernels take minutes to make."""
    stock = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: stock(*a, **k, backend="aot_eager"))
    recipe = replace(smallest.recipe, max_steps=2)
    settings = replace(smallest, decoder_shape=shape, dropout=0.0, recipe=recipe)
    losses = [
        pretrain(
            kind, settings, chunks, tokenizer, tmp_path / str(compiled), "r", compiled=compiled
        ).train_loss
        for compiled in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_what_cannot_be_compiled_is_told_and_pretrained_all_the_same(
    smallest, chunks, tokenizer, tmp_path, monkeypatch
):
    def broken(function, **settings):
        def fail(*tensors):
            raise RuntimeError("no compiler here")

        return fail

    plain = pretrain("encoder", smallest, chunks, tokenizer, tmp_path / "plain", "r")
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="goes on without torch.compile, .* no compiler here"):
        told = pretrain(
            "encoder", smallest, chunks, tokenizer, tmp_path / "told", "r", compiled=True
        )
    # Places are filled up, so sums have another length.
    assert told.train_loss == pytest.approx(plain.train_loss, abs=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("kind", "shape"), [("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")]
)
def test_a_step_on_a_gpu_waits_for_nothing(kind, shape, smallest, chunks, tokenizer):
    recipe = replace(smallest.recipe, compute_dtype="bfloat16")
    settings = replace(smallest, decoder_shape=shape, recipe=recipe)
    model = build(kind, settings, tokenizer).to("cuda").train()  # pyright: ignore[reportArgumentType]
    align_head(model)
    optimizer = build_optimizer(list(model.parameters()), recipe)
    reader = Reader(chunks, Schedule.of(recipe, len(chunks)), settings.seed)
    progress, loss = Progress("r"), module._loss(kind, model, "bfloat16")
    with Batches(kind, settings, reader, tokenizer, model.device) as batches:
        arguments = (loss, model, optimizer, batches, settings, progress)
        module._step(*arguments)
        torch.cuda.set_sync_debug_mode("error")
        try:
            found = module._step(*arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert found.isfinite()


def test_the_loss_falls_and_checkpoints_load_with_their_tokenizer(
    smallest, chunks, tokenizer, tmp_path
):
    settings = replace(smallest, decoder_shape="llama", hidden_size=32)
    recipe = replace(settings.recipe, accumulation=1, learning_rate=1e-2)
    progress = pretrain(
        "decoder", replace(settings, recipe=recipe), chunks, tokenizer, tmp_path, "r"
    )
    guess = np.log(len(tokenizer))
    assert progress.train_loss[0] == pytest.approx(guess, abs=0.3)
    assert progress.train_loss[-1] < guess - 1.5
    assert progress.tokens == chunks.size * recipe.epochs
    first, last = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        for name in ("00", "04")
    )
    ids = torch.from_numpy(chunks[:1].astype(np.int64))
    assert last(ids, labels=ids).loss < first(ids, labels=ids).loss - 1.5
    assert len(AutoTokenizer.from_pretrained(tmp_path / "04")) == len(tokenizer)


def test_the_published_schedule_keeps_51_checkpoints_equally_spaced():
    schedule = Schedule(num_sentences=2_000_001, batch_size=64, accumulation=8, epochs=10)
    steps = checkpoint_steps(schedule, 5)
    assert len(steps) == 51
    assert (steps[0], steps[-1]) == (0, schedule.num_steps)
    assert steps[5] == schedule.steps_per_epoch
    assert set(np.diff(steps)) <= {schedule.steps_per_epoch // 5, schedule.steps_per_epoch // 5 + 1}


def test_too_little_text_for_the_checkpoints_is_refused():
    with pytest.raises(ValueError, match="an epoch has 2 steps, too few for 5 checkpoints"):
        checkpoint_steps(Schedule(num_sentences=16, batch_size=8, accumulation=1, epochs=1), 5)


def test_a_loss_that_is_no_number_stops_training(smallest, chunks, tokenizer, tmp_path):
    recipe = replace(smallest.recipe, learning_rate=1e20)
    with pytest.raises(FloatingPointError, match="a smaller --learning-rate may help"):
        pretrain("encoder", replace(smallest, recipe=recipe), chunks, tokenizer, tmp_path, "r")


def test_the_state_of_another_pretraining_is_refused(smallest, chunks, tokenizer, tmp_path):
    pretrain("encoder", smallest, chunks, tokenizer, tmp_path, "mine")
    with pytest.raises(ValueError, match="is a checkpoint of run mine, not of yours"):
        pretrain("encoder", smallest, chunks, tokenizer, tmp_path, "yours")
