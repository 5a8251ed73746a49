"""Products with one weight per run, against a loop and against PEFT."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import nn

from unmask import kernels
from unmask.kernels import lora_batched, lora_reference

IMPLEMENTATIONS = [
    pytest.param(kernels.grouped_lora, id="public"),
    pytest.param(lora_batched.grouped_lora, id="batched"),
    pytest.param(lora_reference.grouped_lora, id="reference"),
]


def assert_exact(actual, expected):
    """float64, sums of at most 7 products."""
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


COUNTS = [[3], [3, 3], [1, 63, 5], [0, 4], [4, 0], [2, 0, 2], [0, 0], [0]]

pytestmark = pytest.mark.usefixtures("nan_in_empty")


def inputs(counts, in_features=7, rank=3, out_features=5):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    offsets = torch.tensor([0, *counts]).cumsum(0).int()
    runs = len(counts)
    x, a = draw(sum(counts), in_features), draw(runs, rank, in_features)
    return x, a, draw(runs, out_features, rank), offsets


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_equals_one_peft_layer_per_run_with_every_gradient(implementation, counts):
    x, a, b, offsets = inputs(counts)
    weight = torch.randn(len(x), 5, dtype=torch.float64)
    actual = implementation(x, a, b, offsets)
    gradients = torch.autograd.grad((actual * weight).sum(), [x, a, b])
    start = 0
    for run, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        layer = peft_layer(a[run], b[run])
        piece = x[rows].detach().requires_grad_()
        # With a base of zeros, PEFT's layer is the update itself; alpha = rank makes its scale 1.
        expected = layer(piece)
        (expected * weight[rows]).sum().backward()
        assert_exact(actual[rows], expected)
        their_a, their_b = (getattr(layer, name)["default"].weight for name in ("lora_A", "lora_B"))
        theirs = (piece.grad, their_a.grad, their_b.grad)
        ours = (gradients[0][rows], gradients[1][run], gradients[2][run])
        for our, their in zip(ours, theirs, strict=True):
            assert_exact(our, their)


def peft_layer(a, b):
    base = nn.Linear(7, 5, bias=False, dtype=torch.float64)
    base.weight.data.zero_()
    layer = PeftLinear(base, "default", LoraConfig(r=3, lora_alpha=3), r=3, lora_alpha=3).double()
    for name, value in (("lora_A", a), ("lora_B", b)):
        getattr(layer, name)["default"].weight.data.copy_(value.detach())
    return layer


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_grouped_linear_equals_a_loop(counts):
    x, weight, _, offsets = inputs(counts)
    loop = [row @ weight[run].T for run, part in enumerate(x.split(counts)) for row in part]
    expected = torch.stack(loop) if loop else x.new_zeros(0, 3)
    assert_exact(kernels.grouped_linear(x, weight, offsets), expected)


def test_grouped_linear_takes_tokens_in_any_memory_layout():
    x, weight, _, offsets = inputs([2, 2])
    strided = x.T.contiguous().T
    assert not strided.is_contiguous()
    expected = kernels.grouped_linear(x, weight, offsets)
    assert_exact(kernels.grouped_linear(strided, weight, offsets), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_in_one_run_stays_there(implementation):
    x, a, b, offsets = inputs([4, 4, 4])
    x = x.detach().clone()
    x[4:8] = float("nan")
    x.requires_grad_()
    out = implementation(x, a, b, offsets)
    gradients = torch.autograd.grad(out.sum(), [x, a, b])
    assert out[4:8].isnan().all()
    assert out[:4].isfinite().all()
    assert out[8:].isfinite().all()
    for gradient in gradients[1:]:
        assert gradient[[0, 2]].isfinite().all()


def test_the_batched_and_the_public_functions_share_their_signatures():
    public = inspect.signature(kernels.grouped_lora)
    assert inspect.signature(lora_batched.grouped_lora) == public
    assert inspect.signature(lora_reference.grouped_lora) == public
    assert inspect.signature(lora_batched.grouped_linear) == inspect.signature(
        kernels.grouped_linear
    )
