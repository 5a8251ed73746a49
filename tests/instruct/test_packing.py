from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from unmask.instruct.encoding import IGNORED, EncodedQuery
from unmask.instruct.packing import (
    PACKINGS,
    batch_rows,
    pack_concatenate,
    pack_none,
    pack_separate,
)

texts = st.lists(
    st.lists(st.integers(1, 60), min_size=1, max_size=9).map(
        lambda ids: EncodedQuery("q", tuple(ids), tuple(ids))
    ),
    max_size=9,
)


@given(texts, st.integers(9, 20))
def test_no_token_is_lost_and_no_row_is_too_long(found, room):
    for name in ("none", "separate"):
        rows = PACKINGS[name](found, room)
        assert [t for row in rows for t in row.token_ids] == [
            t for text in found for t in text.token_ids
        ]
        assert all(len(row.token_ids) <= room for row in rows)


@given(texts, st.integers(1, 20))
def test_a_stream_is_cut_into_full_rows(found, room):
    rows = pack_concatenate(found, room)
    stream = [t for text in found for t in text.token_ids]
    assert [t for row in rows for t in row.token_ids] == stream[
        : sum(len(r.token_ids) for r in rows)
    ]
    assert len({len(row.token_ids) for row in rows}) <= 1
    assert not stream or rows


def random_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def summed_loss(model, rows) -> torch.Tensor:
    batch = batch_rows(rows, pad_id=0)
    trained = (batch["labels"][:, 1:] != IGNORED).sum()
    return model(**batch, use_cache=False).loss * trained


@pytest.mark.parametrize("lengths", [(3, 5), (7, 2, 9, 1, 4)])
def test_texts_in_one_row_do_not_see_each_other(lengths):
    model, generator = random_llama(), torch.Generator().manual_seed(1)
    found = [
        EncodedQuery("q", tuple(ids), tuple(ids))
        for n in lengths
        for ids in [torch.randint(1, 64, (n,), generator=generator).tolist()]
    ]
    with torch.no_grad():
        alone = sum(
            summed_loss(model, pack_none([text], 99)) for text in found if len(text.token_ids) > 1
        )
        packed = summed_loss(model, pack_separate(found, 12))
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-4)


def test_in_a_stream_a_text_sees_the_one_before():
    model = random_llama()
    found = [EncodedQuery("q", (5, 6, 7), (5, 6, 7)), EncodedQuery("r", (8, 9), (8, 9))]
    with torch.no_grad():
        stream = summed_loss(model, pack_concatenate(found, 5))
        ids = torch.tensor([[5, 6, 7, 8, 9]])
        torch.testing.assert_close(stream, model(ids, labels=ids).loss * 4)
