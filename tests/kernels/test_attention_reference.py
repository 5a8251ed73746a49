"""The definition of packed attention itself: its gradients, and its rotary embedding."""

import pytest
import torch
from torch.autograd import gradcheck
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from unmask import kernels
from unmask.kernels import attention_rectangles, attention_reference

IMPLEMENTATIONS = [
    pytest.param(kernels.varlen_attention, id="public"),
    pytest.param(attention_rectangles.varlen_attention, id="rectangles"),
    pytest.param(attention_reference.varlen_attention, id="reference"),
]


def tables(positions, head_dim, dtype=torch.float64):
    speeds = 10_000.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(positions)[:, None] * speeds
    return angles.cos().to(dtype), angles.sin().to(dtype)


def draw(tokens, *heads, head_dim=4):
    generator = torch.Generator().manual_seed(tokens)
    return [
        torch.randn(tokens, h, head_dim, generator=generator, dtype=torch.float64).requires_grad_()
        for h in heads
    ]


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("rotary", [False, True])
def test_gradients_of_the_reference_are_those_of_finite_differences(window, softcap, rotary):
    cu_seqlens, causal = torch.tensor([0, 1, 5, 8]).int(), torch.tensor([True, False, True])
    cos, sin = tables(4, 4) if rotary else (None, None)
    assert gradcheck(
        lambda q, k, v: attention_reference.varlen_attention(
            q, k, v, cu_seqlens, 4, causal, 0.7, window, softcap, cos, sin
        ),
        draw(8, 4, 2, 2),
    )


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rotary_embedding_is_that_of_transformers_from_zero_in_every_sentence(implementation):
    lengths = [5, 1, 40, 3]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    causal = torch.tensor([True, False, False, True])
    q, k, v = draw(49, 4, 2, 2, head_dim=6)
    cos, sin = tables(64, 6)
    positions = torch.cat([torch.arange(n) for n in lengths])
    c, s = (torch.cat([table, table], dim=1)[positions][None] for table in (cos, sin))
    rotated = apply_rotary_pos_emb(q.transpose(0, 1)[None], k.transpose(0, 1)[None], c, s)
    expected = implementation(
        *(x[0].transpose(0, 1) for x in rotated), v, cu_seqlens, 40, causal, 0.4
    )
    actual = implementation(q, k, v, cu_seqlens, 40, causal, 0.4, cos=cos, sin=sin)
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
    ours, theirs = (
        torch.autograd.grad(out.square().sum(), [q, k, v]) for out in (actual, expected)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize(
    ("cos", "sin", "message"),
    [
        (torch.ones(3, 2), None, r"given together and in one shape, got \(3, 2\) and None"),
        (torch.ones(3, 2), torch.ones(4, 2), r"got \(3, 2\) and \(4, 2\)"),
        (
            torch.ones(3, 4),
            torch.ones(3, 4),
            r"\(3, 4\) do not fit heads of 4 .* \[3 or more, 4 / ",
        ),
        (torch.ones(2, 2), torch.ones(2, 2), r"\(2, 2\) do not fit .* up to 3 tokens"),
    ],
)
def test_tables_that_do_not_fit_are_refused(cos, sin, message):
    q, k, v = draw(3, 2, 2, 2)
    with pytest.raises(ValueError, match=message):
        kernels.varlen_attention(
            q, k, v, torch.tensor([0, 3]).int(), 3, torch.tensor([True]), 1.0, cos=cos, sin=sin
        )
