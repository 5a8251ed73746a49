"""Low-rank updates with one pair of matrices per run, against PEFT and against a loop."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.autograd import gradcheck

from unmask import kernels
from unmask.kernels import lora_batched, lora_reference
from unmask.kernels.dropout import Dropout

IMPLEMENTATIONS = [
    pytest.param(kernels.grouped_lora, id="public"),
    pytest.param(lora_batched.grouped_lora, id="batched"),
    pytest.param(lora_reference.grouped_lora, id="reference"),
]
SCALE = 2 / 3


def assert_exact(actual, expected):
    """float64, sums of at most 7 products."""
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)


COUNTS = [[3], [3, 3], [1, 63, 5], [0, 4], [4, 0], [2, 0, 2], [0, 0], [0]]

pytestmark = pytest.mark.usefixtures("nan_in_empty")


def inputs(counts, in_features=7, rank=3, out_features=5):
    """Base output, tokens and both matrices, all with gradients, and the offsets."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return x.requires_grad_()

    offsets = torch.tensor([0, *counts]).cumsum(0).int()
    runs, tokens = len(counts), sum(counts)
    leaves = [draw(tokens, out_features), draw(tokens, in_features)]
    leaves += [draw(runs, rank, in_features), draw(runs, out_features, rank)]
    return leaves, offsets


def with_gradients(implementation, leaves, *rest):
    output = implementation(*leaves, *rest)
    weight = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), leaves)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("counts", COUNTS, ids=str)
def test_equals_one_peft_layer_per_run_with_every_gradient(implementation, counts):
    leaves, offsets = inputs(counts)
    _, x, a, b = leaves
    frozen = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(len(x), 5, dtype=torch.float64)
    actual = implementation(x @ frozen.T, x, a, b, offsets, SCALE)
    gradients = torch.autograd.grad((actual * weight).sum(), [x, a, b])
    start = 0
    for run, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        layer = peft_layer(frozen, a[run], b[run])
        piece = x[rows].detach().requires_grad_()
        expected = layer(piece)
        (expected * weight[rows]).sum().backward()
        assert_exact(actual[rows], expected)
        their_a, their_b = (getattr(layer, name)["default"].weight for name in ("lora_A", "lora_B"))
        theirs = (piece.grad, their_a.grad, their_b.grad)
        ours = (gradients[0][rows], gradients[1][run], gradients[2][run])
        for our, their in zip(ours, theirs, strict=True):
            assert_exact(our, their)


def peft_layer(frozen, a, b):
    base = nn.Linear(7, 5, bias=False, dtype=torch.float64)
    base.weight.data.copy_(frozen)
    # PEFT's scale is alpha over rank.
    config = LoraConfig(r=3, lora_alpha=2, target_modules=["base"])
    model: Any = inject_adapter_in_model(config, nn.ModuleDict({"base": base}))
    layer = model["base"].double()
    for name, value in (("lora_A", a), ("lora_B", b)):
        getattr(layer, name)["default"].weight.data.copy_(value.detach())
    return layer


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    probability=st.sampled_from([0.0, 0.1, 0.5]),
    features=st.integers(1, 9),
)
def test_batched_equals_the_reference_with_dropout(counts, probability, features):
    leaves, offsets = inputs(counts, in_features=features)
    # Runs with one key and one count share a mask; others do not.
    dropout = Dropout(probability, tuple(run % 2 for run in range(len(counts))))
    rest = (offsets, SCALE, dropout if probability else None)
    actual = with_gradients(lora_batched.grouped_lora, leaves, *rest)
    expected = with_gradients(lora_reference.grouped_lora, leaves, *rest)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_exact(ours, theirs)


@pytest.mark.parametrize("counts", [[3], [2, 2], [1, 3]], ids=str)
def test_gradients_of_the_batched_form_are_those_of_finite_differences(counts):
    leaves, offsets = inputs(counts)
    dropout = Dropout(0.4, tuple(range(len(counts))))

    def update(base, x, a, b):
        return lora_batched.grouped_lora(base, x, a, b, offsets, 0.7, dropout)

    assert gradcheck(update, leaves)


def test_nothing_is_kept_for_backward_but_the_input_the_mask_and_the_inner_product():
    leaves, offsets = inputs([4, 4], in_features=64, rank=2, out_features=32)
    base, x, a, b = leaves
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        lora_batched.grouped_lora(base, x, a, b, offsets, SCALE, Dropout(0.1, (1, 2)))
    given = {leaf.data_ptr() for leaf in leaves}
    own = sorted(t.numel() * t.element_size() for t in kept if t.data_ptr() not in given)
    assert own == [8 * 8 * 2, 8 * 8 * 64]  # in float64, the inner product and the mask


def test_a_frozen_input_gets_no_gradient_and_costs_no_product(monkeypatch):
    (base, x, a, b), offsets = inputs([3, 3])
    out = lora_batched.grouped_lora(base.detach(), x.detach(), a, b, offsets, SCALE)
    products = []
    original = lora_batched.grouped_linear
    monkeypatch.setattr(
        lora_batched, "grouped_linear", lambda *args: products.append(args) or original(*args)
    )
    out.sum().backward()
    assert len(products) == 1  # back through B, for A's gradient; not through A
    assert a.grad is not None
    assert x.grad is None


@settings(deadline=None, max_examples=40)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5), has_bias=st.booleans())
def test_grouped_linear_equals_a_loop(counts, has_bias):
    (_, x, weight, _), offsets = inputs(counts)
    bias = torch.arange(3.0 * len(counts), dtype=x.dtype).view(-1, 3) if has_bias else None
    added = x.new_zeros(len(counts), 3) if bias is None else bias
    loop = [
        row @ weight[run].T + added[run] for run, part in enumerate(x.split(counts)) for row in part
    ]
    expected = torch.stack(loop) if loop else x.new_zeros(0, 3)
    assert_exact(kernels.grouped_linear(x, weight, offsets, bias), expected)


def test_grouped_linear_takes_tokens_in_any_memory_layout():
    (_, x, weight, _), offsets = inputs([2, 2])
    strided = x.T.contiguous().T
    assert not strided.is_contiguous()
    expected = kernels.grouped_linear(x, weight, offsets)
    assert_exact(kernels.grouped_linear(strided, weight, offsets), expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_in_one_run_stays_there(implementation):
    (base, x, a, b), offsets = inputs([4, 4, 4])
    x = x.detach().clone()
    x[4:8] = float("nan")
    x.requires_grad_()
    out = implementation(base, x, a, b, offsets, SCALE)
    gradients = torch.autograd.grad(out.sum(), [x, a, b])
    assert out[4:8].isnan().all()
    assert out[:4].isfinite().all()
    assert out[8:].isfinite().all()
    for gradient in gradients[1:]:
        assert gradient[[0, 2]].isfinite().all()
