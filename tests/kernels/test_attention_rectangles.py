"""What the rectangles remember from one call to the next never shows in a result."""

import pytest
import torch

from unmask.kernels.attention_rectangles import varlen_attention
from unmask.kernels.attention_reference import varlen_attention as reference

LENGTHS = [3, 40, 1, 17]
CU_SEQLENS = torch.tensor([0, *LENGTHS]).cumsum(0).int()


def draw(dtype=torch.float64):
    shapes = [(sum(LENGTHS), heads, 4) for heads in (4, 2, 2)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def assert_equals_reference(qkv, causal, window=None, atol=1e-12):
    q, k, v = qkv
    actual, expected = (
        attention(q, k, v, CU_SEQLENS.clone(), max(LENGTHS), torch.tensor(causal), 0.5, window)
        for attention in (varlen_attention, reference)
    )
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)
    weight = torch.randn_like(actual)
    ours = torch.autograd.grad((actual * weight).sum(), qkv)
    theirs = torch.autograd.grad((expected * weight).sum(), qkv)
    torch.testing.assert_close(ours, theirs, atol=10 * atol, rtol=0)


def test_other_flags_for_the_same_pack():
    qkv = draw()
    for causal in ([True] * 4, [False] * 4, [True, False, False, True], [True] * 4):
        assert_equals_reference(qkv, causal)


@pytest.mark.parametrize("windows", [(None, 2, None), (5, 40, 41)], ids=str)
def test_other_windows_for_the_same_pack(windows):
    qkv = draw()
    for window in windows:
        assert_equals_reference(qkv, [False, False, True, False], window)


def test_another_dtype_for_the_same_pack():
    causal = [False, True, True, False]
    assert_equals_reference(draw(torch.float64), causal)
    # float32 rounds at 1e-7; sums here have 40 terms of order 1.
    assert_equals_reference(draw(torch.float32), causal, atol=1e-5)


def test_what_is_remembered_in_inference_mode_serves_training():
    causal = torch.tensor([True, False, True, False])
    with torch.inference_mode():
        # Flags that no other test uses with this window, so that masks too are built in here.
        q, k, v = draw()
        varlen_attention(q, k, v, CU_SEQLENS, max(LENGTHS), causal, 0.5, 7)
    assert_equals_reference(draw(), causal.tolist(), 7)


def test_sentences_without_tokens_are_passed_over():
    q, k, v = draw()
    cu_seqlens = torch.tensor([0, 0, *CU_SEQLENS[1:].tolist(), sum(LENGTHS)]).int()
    causal = torch.tensor([True, True, False, True, False, False])
    actual = varlen_attention(q, k, v, cu_seqlens, max(LENGTHS), causal, 0.5)
    expected = reference(q, k, v, CU_SEQLENS, max(LENGTHS), causal[1:-1], 0.5)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


def test_other_rotary_tables_and_more_heads_for_the_same_pack():
    places = max(LENGTHS)
    for seed, heads in ((0, 2), (1, 2), (1, 6), (1, 2)):
        generator = torch.Generator().manual_seed(seed)
        angles = torch.randn(places, 2, generator=generator, dtype=torch.float64)
        q, k, v = (torch.randn(sum(LENGTHS), h, 4, dtype=torch.float64) for h in (heads, 2, 2))
        call = (CU_SEQLENS, places, torch.tensor([True, False, True, False]), 0.5)
        cos, sin = angles.cos(), angles.sin()
        actual, expected = (
            attention(q, k, v, *call, cos=cos, sin=sin)
            for attention in (varlen_attention, reference)
        )
        torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)
