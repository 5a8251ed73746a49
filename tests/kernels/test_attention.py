"""Packed attention against its definition, and the definition against PyTorch's SDPA."""

import inspect
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask import kernels
from unmask.kernels import attention_rectangles, attention_reference

IMPLEMENTATIONS = [
    pytest.param(kernels.varlen_attention, id="public"),
    pytest.param(attention_rectangles.varlen_attention, id="rectangles"),
    pytest.param(attention_reference.varlen_attention, id="reference"),
]


def assert_exact(actual, expected):
    """float64: sums of at most 65 products of order 1, in whatever order."""
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


LENGTHS = [1, 63, 65, 2, 32, 33, 5]

pytestmark = pytest.mark.usefixtures("nan_in_empty")


def inputs(lengths, heads=4, kv_heads=2, head_dim=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(len(lengths))
    tokens = sum(lengths)

    def draw(h):
        x = torch.randn(tokens, h, head_dim, generator=generator, dtype=torch.float64) * 2
        return x.to(dtype).requires_grad_()

    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    return (draw(heads), draw(kv_heads), draw(kv_heads)), cu_seqlens


def one_sentence_at_a_time(q, k, v, cu_seqlens, causal, scale, window):
    """PyTorch's own attention, sentence by sentence, with a mask spelt out token by token."""
    outputs = []
    for (start, end), is_causal in zip(pairwise(cu_seqlens.tolist()), causal, strict=True):
        length = end - start
        seen = torch.zeros(length, length, dtype=torch.bool)
        for i in range(length):
            for j in range(length):
                near = window is None or abs(i - j) < window
                seen[i, j] = near and (j <= i or not is_causal)
        piece = (x[start:end].transpose(0, 1)[None] for x in (q, k, v))
        out = F.scaled_dot_product_attention(*piece, attn_mask=seen, scale=scale, enable_gqa=True)
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def with_gradients(implementation, qkv, rest, weight):
    output = implementation(*qkv, *rest)
    return output.detach(), torch.autograd.grad((output * weight).sum(), qkv)


def assert_same(actual, expected):
    for a, b in zip([actual[0], *actual[1]], [expected[0], *expected[1]], strict=True):
        assert_exact(a, b)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("window", [None, 1, 4, 40])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_equals_sdpa_one_sentence_at_a_time(implementation, window, kv_heads):
    qkv, cu_seqlens = inputs(LENGTHS, kv_heads=kv_heads)
    causal = torch.tensor([True, False, True, True, False, True, False])
    weight = torch.randn(qkv[0].shape, dtype=torch.float64)
    rest = (cu_seqlens, 65, causal, 0.3, window)
    actual = with_gradients(implementation, qkv, rest, weight)
    rest = (cu_seqlens, causal.tolist(), 0.3, window)
    expected = with_gradients(one_sentence_at_a_time, qkv, rest, weight)
    assert_same(actual, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_score_cap_is_applied_before_the_mask(implementation):
    qkv, cu_seqlens = inputs([3])
    q, k, v = qkv
    actual = implementation(
        q, k, v, cu_seqlens, 3, torch.tensor([True]), 1.5, window=None, softcap=2.0
    )
    for head in range(4):
        for i in range(3):
            scores = torch.stack([1.5 * q[i, head] @ k[j, head // 2] for j in range(i + 1)])
            weights = (2.0 * torch.tanh(scores / 2.0)).exp()
            expected = (weights / weights.sum()) @ v[: i + 1, head // 2]
            assert_exact(actual[i, head], expected)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=6),
    seed=st.integers(0, 2**16),
    window=st.none() | st.integers(1, 70),
    softcap=st.none() | st.floats(0.5, 30),
)
def test_rectangles_equal_the_reference(lengths, seed, window, softcap):
    qkv, cu_seqlens = inputs(lengths)
    generator = torch.Generator().manual_seed(seed)
    causal = torch.rand(len(lengths), generator=generator) < 0.5
    weight = torch.randn(qkv[0].shape, generator=generator, dtype=torch.float64)
    rest = (cu_seqlens, max(lengths), causal, 0.3, window, softcap)
    actual = with_gradients(attention_rectangles.varlen_attention, qkv, rest, weight)
    expected = with_gradients(attention_reference.varlen_attention, qkv, rest, weight)
    assert_same(actual, expected)


@pytest.mark.parametrize("lengths", [(129,), (3, 150, 0, 40, 129, 16), (128, 129)], ids=str)
@pytest.mark.parametrize("window", [None, 7])
def test_long_sentences_among_short_ones_equal_the_reference(lengths, window):
    """Up to 128 tokens scores are written out; longer sentences take another way."""
    qkv, cu_seqlens = inputs(lengths)
    causal = torch.arange(len(lengths)) % 2 == 0
    weight = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1)).double()
    rest = (cu_seqlens, max(lengths), causal, 0.3, window)
    actual = with_gradients(attention_rectangles.varlen_attention, qkv, rest, weight)
    expected = with_gradients(attention_reference.varlen_attention, qkv, rest, weight)
    assert_same(actual, expected)


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        # Twice the unit round-off times a few operations; scores of order 10 before the softmax.
        (torch.float32, 2e-5),
        (torch.float16, 2e-2),
        (torch.bfloat16, 1e-1),
    ],
)
def test_lower_precision_stays_near_the_float64_definition(dtype, tolerance, softcap):
    exact, cu_seqlens = inputs([1, 33, 7])
    rounded = tuple(x.detach().to(dtype).requires_grad_() for x in exact)
    exact = tuple(x.detach().double().requires_grad_() for x in rounded)
    rest = (cu_seqlens, 33, torch.tensor([False, False, True]), 0.3, None, softcap)
    weight = torch.randn(exact[0].shape, dtype=torch.float64)
    low = with_gradients(kernels.varlen_attention, rounded, rest, weight.to(dtype))
    high = with_gradients(attention_reference.varlen_attention, exact, rest, weight)
    assert low[0].dtype == dtype
    for a, b in zip([low[0], *low[1]], [high[0], *high[1]], strict=True):
        assert (a.double() - b).abs().max() <= tolerance * b.abs().max()


def test_large_scores_are_not_rounded_to_bfloat16():
    """Scores of order 30; the cap is that of the Triton kernels."""
    exact, cu_seqlens = inputs([1, 33, 70])
    rounded = tuple((3 * x.detach()).bfloat16().requires_grad_() for x in exact)
    exact = tuple(x.detach().double().requires_grad_() for x in rounded)
    rest = (cu_seqlens, 70, torch.tensor([False, False, True]), 0.35)
    weight = torch.randn(exact[0].shape, dtype=torch.float64).bfloat16()
    low = with_gradients(kernels.varlen_attention, rounded, rest, weight)
    high = with_gradients(attention_reference.varlen_attention, exact, rest, weight.double())
    for a, b in zip([low[0], *low[1]], [high[0], *high[1]], strict=True):
        assert (a.double() - b).abs().max() <= 2.5e-2 * b.abs().max()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_empty_sentence_among_others_changes_nothing(implementation):
    qkv, _ = inputs([40, 3])
    flags = torch.tensor([True, False])
    without = implementation(*qkv, torch.tensor([0, 40, 43]).int(), 40, flags, 0.3)
    empty_in_front = torch.tensor([0, 0, 40, 43]).int()
    flags = torch.tensor([False, True, False])
    assert torch.equal(implementation(*qkv, empty_in_front, 40, flags, 0.3), without)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_in_one_sentence_stays_there(implementation):
    qkv, cu_seqlens = inputs([5, 6, 40])
    poisoned = [x.detach().clone() for x in qkv]
    for x in poisoned:
        x[5:11] = float("nan")
    leaves = [x.requires_grad_() for x in poisoned]
    out = implementation(*leaves, cu_seqlens, 40, torch.tensor([True, False, False]), 0.3)
    healthy = [*range(5), *range(11, 51)]
    gradients = torch.autograd.grad(out[healthy].sum(), leaves)
    assert out[5:11].isnan().all()
    for tensor in (out, *gradients):
        assert tensor[healthy].isfinite().all()


@pytest.mark.parametrize("module", [attention_rectangles, attention_reference])
def test_implementations_share_the_signature_of_the_public_function(module):
    assert inspect.signature(module.varlen_attention) == inspect.signature(kernels.varlen_attention)
