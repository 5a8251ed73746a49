"""Packs: what they must hold, and that nothing passes from one sentence to another."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.attention import unmasked
from unmask.config import UnmaskConfig, gray_codes
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.packing import PackedBatch, pack, pack_padded

NUM_LAYERS = 4


def encoded(token_ids):
    """A sentence of one-token words with label 0."""
    ids = tuple(token_ids)
    return EncodedSentence("s", ids, tuple(range(len(ids))), (0,) * len(ids), 0)


def small_batch(**changes):
    batch = pack([[encoded([5, 6, 7]), encoded([8, 9])], [encoded([4])]], [[True], [False]])
    return replace(batch, **changes)


def test_a_pack_lays_sentences_end_to_end_run_after_run():
    batch = small_batch()
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 4]
    assert batch.position_ids.tolist() == [0, 1, 2, 0, 1, 0]
    assert batch.cu_seqlens.tolist() == [0, 3, 5, 6]
    assert batch.run_offsets.tolist() == [0, 5, 6]
    assert batch.causal.tolist() == [[True], [True], [False]]
    assert (batch.max_seqlen, batch.num_tokens, batch.num_sentences, batch.num_runs) == (3, 6, 3, 2)
    assert batch.cu_seqlens.dtype == batch.run_offsets.dtype == torch.int32
    assert batch.token_ids.dtype == batch.position_ids.dtype == torch.int64


def test_a_run_may_have_no_sentence():
    batch = pack([[], [encoded([5, 6])], []], [[True], [False], [True]])
    assert batch.run_offsets.tolist() == [0, 0, 2, 2]
    assert batch.causal.tolist() == [[False]]


def test_padding_is_dropped_on_either_side_and_found_again():
    ids = torch.tensor([[0, 5, 6], [7, 0, 0], [8, 9, 4]])
    mask = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 1, 1]])
    labels = torch.tensor([[-100, 1, 2], [3, -100, -100], [4, 5, 6]])
    batch, kept = pack_padded(ids, mask, [True, False], labels)
    assert batch.token_ids.tolist() == [5, 6, 7, 8, 9, 4]
    assert batch.position_ids.tolist() == [0, 1, 0, 0, 1, 2]
    assert batch.label_ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert batch.causal.tolist() == [[True, False]] * 3
    assert batch.num_runs == 1
    rectangle = torch.zeros_like(ids)
    rectangle[kept] = batch.token_ids
    assert torch.equal(rectangle, ids)


def test_without_a_padding_mask_everything_is_kept_and_nothing_is_labelled():
    batch, kept = pack_padded(torch.tensor([[5, 6], [7, 8]]), None, [True])
    assert kept.all()
    assert batch.cu_seqlens.tolist() == [0, 2, 4]
    assert (batch.label_ids == IGNORED_LABEL).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"position_ids": torch.zeros(5)}, r"position_ids has shape \(5,\), expected \(6,\)"),
        ({"label_ids": torch.zeros(1, 6)}, r"label_ids has shape \(1, 6\), expected \(6,\)"),
        ({"cu_seqlens": torch.tensor([1, 3, 5, 6])}, "cu_seqlens must rise from 0 to the 6 tokens"),
        ({"cu_seqlens": torch.tensor([0, 3, 5, 7])}, r"got \[0, 3, 5, 7\]"),
        ({"cu_seqlens": torch.tensor([0, 5, 3, 6])}, r"in steps of at least 1, got \[0, 5, 3, 6\]"),
        ({"cu_seqlens": torch.tensor([0, 3, 3, 6])}, r"in steps of at least 1, got \[0, 3, 3, 6\]"),
        ({"cu_seqlens": torch.tensor([0])}, r"cu_seqlens must rise from 0 .* got \[0\]"),
        ({"run_offsets": torch.tensor([0, 5, 3, 6])}, "run_offsets must rise from 0 to the 6 tok"),
        ({"run_offsets": torch.tensor([0, 5])}, r"run_offsets must rise .* got \[0, 5\]"),
        ({"run_offsets": torch.tensor([0, 4, 6])}, "a run must begin where a sentence begins"),
        ({"max_seqlen": 2}, "max_seqlen is 2, but the longest sentence has 3 tokens"),
        ({"causal": torch.ones(2, 1).bool()}, r"causal has shape \(2, 1\), expected one row .* 3"),
        ({"causal": torch.ones(3).bool()}, r"causal has shape \(3,\), expected one row"),
        ({"causal": torch.ones(3, 1)}, "causal is torch.float32, expected torch.bool"),
    ],
)
def test_offsets_flags_and_tokens_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=f"packed batch: .*{message}"):
        small_batch(**changes)


def test_a_pack_without_sentences_is_refused():
    with pytest.raises(ValueError, match="cannot pack a batch without sentences"):
        pack([[], []], [[True], [True]])


def test_runs_without_flags_are_refused():
    with pytest.raises(ValueError, match="2 runs but 1 rows of causal flags"):
        pack([[encoded([5])], []], [[True]])


def test_rows_of_padding_alone_are_refused():
    mask = torch.tensor([[1, 1], [0, 0]])
    with pytest.raises(ValueError, match=r"rows \[1\] of the batch hold nothing but padding"):
        pack_padded(torch.ones(2, 2, dtype=torch.long), mask, [True])


sentences = st.lists(st.integers(3, 63), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def model(build):
    return build("llama").double()


@torch.no_grad()
def states(model, runs, codes) -> list[torch.Tensor]:
    configs = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in codes]
    batch = pack([[encoded(s) for s in run] for run in runs], [c.causal for c in configs])
    with unmasked(model, configs[0]):
        hidden = model(
            input_ids=batch.token_ids[None], position_ids=batch.position_ids[None], packed=batch
        ).last_hidden_state[0]
    return list(hidden.split(batch.lengths.tolist()))


@settings(deadline=None, max_examples=40)
@given(
    sentence=sentences,
    before=st.lists(sentences, max_size=4),
    after=st.lists(sentences, max_size=4),
    code=st.sampled_from(gray_codes(4)),
    other_code=st.sampled_from(gray_codes(4)),
)
def test_neighbours_change_nothing(model, sentence, before, after, code, other_code):
    """Alone, among others of its run, and beside another run: the same states.

    float64: only the order of summation may differ; states are of order 1.
    """
    alone = states(model, [[sentence]], [code])[0]
    among = states(model, [[*before, sentence, *after]], [code])[len(before)]
    torch.testing.assert_close(among, alone, atol=1e-12, rtol=0)
    swapped = states(model, [[*after, sentence, *before]], [code])[len(after)]
    torch.testing.assert_close(swapped, alone, atol=1e-12, rtol=0)
    beside = states(model, [before, [sentence], after], [other_code, code, other_code])
    torch.testing.assert_close(beside[len(before)], alone, atol=1e-12, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("code", ["0000", "0110", "1111"])
def test_nan_in_one_sentence_stays_there(build, code):
    poisoned = build("llama").double()
    poisoned.embed_tokens.weight[9] = float("nan")
    first, second, third = states(poisoned, [[[5, 6], [7, 9, 8], [4, 3, 6]]], [code])
    assert second[1:].isnan().all()
    assert first.isfinite().all()
    assert third.isfinite().all()


def test_a_pack_moves_with_its_run_offsets_left_on_the_host():
    batch = small_batch().to("meta")
    assert isinstance(batch, PackedBatch)
    assert batch.token_ids.device.type == batch.causal.device.type == "meta"
    assert batch.run_offsets.tolist() == [0, 5, 6]


def test_labelled_tokens_are_found_once_and_travel_with_the_batch():
    def sentence(*label_ids):
        places = tuple(range(len(label_ids)))
        return EncodedSentence("s", places, places, label_ids, 0)

    runs = [[sentence(3, -100), sentence(1)], [], [sentence(-100, 2, 4)]]
    batch = pack(runs, [[True]] * 3)
    for pack_or_copy in (batch, batch.to("cpu")):
        labelled = pack_or_copy.labelled
        assert labelled.places.tolist() == [0, 2, 4, 5]
        assert labelled.label_ids.tolist() == [3, 1, 2, 4]
        assert labelled.run_offsets.tolist() == [0, 2, 2, 4]
        assert labelled.run_offsets.dtype == torch.int32
        assert pack_or_copy.labelled is labelled


def test_every_token_knows_its_run_also_beside_empty_ones():
    words = {n: EncodedSentence("s", (5,) * n, (0,) * n, (0,) * n, 0) for n in (1, 2, 3)}
    batch = pack([[], [words[2], words[1]], [], [words[3]], []], [[True]] * 5)
    assert batch.runs.tolist() == [1, 1, 1, 3, 3, 3]
    assert batch.runs.dtype == torch.int64
