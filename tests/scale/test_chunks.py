import numpy as np
import pytest
import torch

from unmask.scale.chunks import Batches, Reader
from unmask.scale.language_models import IGNORED
from unmask.training.batches import Schedule


@pytest.fixture
def chunks(tokens, smallest):
    return tokens.chunks(smallest.recipe.max_subtokens)


def test_encoder_and_decoder_read_the_same_chunks_in_the_same_order(chunks, smallest):
    schedule = Schedule.of(smallest.recipe, len(chunks))
    one, other = (Reader(chunks, schedule, seed=120) for _ in range(2))
    batches = [one.batch(at) for at in range(schedule.num_microbatches)]
    assert all(np.array_equal(batch, other.batch(at)) for at, batch in enumerate(batches))
    epoch = np.concatenate(batches[: schedule.microbatches_per_epoch])
    assert sorted(map(tuple, epoch)) == sorted(map(tuple, chunks))
    assert not np.array_equal(batches[0], batches[schedule.microbatches_per_epoch])


@pytest.fixture
def take(chunks, smallest, tokenizer):
    """`take(kind, order, steady)`: micro-batches, asked for in that order."""

    def batches(kind, order, steady=False):
        reader = Reader(chunks, Schedule.of(smallest.recipe, len(chunks)), seed=120)
        with Batches(kind, smallest, reader, tokenizer, torch.device("cpu"), steady) as made:
            return [made.take(at) for at in order]

    return batches


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_a_micro_batch_depends_on_its_number_alone(take, kind):
    forwards, again = take(kind, range(4)), take(kind, [3, 3, 0])
    for number, other in zip((3, 3, 0), again, strict=True):
        assert len(other) == len(forwards[number])
        assert all(map(torch.equal, other, forwards[number]))


def test_an_encoder_is_asked_for_what_the_chunks_had_where_it_was_hidden(take):
    for (tokens,), (seen, places, targets) in zip(
        take("decoder", range(3)), take("encoder", range(3)), strict=True
    ):
        assert torch.equal(tokens.flatten()[places], targets)
        changed = (tokens != seen).flatten().nonzero().flatten()
        assert set(changed.tolist()) <= set(places.tolist())


def test_steady_batches_have_few_sizes_and_foretell_the_same(take):
    exact, steady = take("encoder", range(8)), take("encoder", range(8), steady=True)
    assert len({len(places) for _, places, _ in exact}) > 3
    for (seen, _, wanted), (same, _, filled) in zip(exact, steady, strict=True):
        assert torch.equal(seen, same)
        assert torch.equal(filled[filled != IGNORED], wanted)
        assert len(filled) % -(-seen.numel() // 64) == 0
