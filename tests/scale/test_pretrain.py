from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from unmask.scale.pretrain import Reader, checkpoint_steps, pretrain
from unmask.training.batches import Schedule


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


def test_encoder_and_decoder_read_the_same_chunks_in_the_same_order(chunks, smallest):
    schedule = Schedule.of(smallest.recipe, len(chunks))
    one, other = (Reader(chunks, schedule, seed=120) for _ in range(2))
    batches = [one.batch(at) for at in range(schedule.num_microbatches)]
    assert all(np.array_equal(batch, other.batch(at)) for at, batch in enumerate(batches))
    epoch = np.concatenate(batches[: schedule.microbatches_per_epoch])
    assert sorted(map(tuple, epoch)) == sorted(map(tuple, chunks))
    assert not np.array_equal(batches[0], batches[schedule.microbatches_per_epoch])


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
