"""The norm and the gated activation of a decoder block, against transformers' own modules."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from unmask import kernels

EPS = 1e-5
# A unit round-off of each dtype, times a few roundings of numbers of order 1 to 10.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 3e-2}

pytestmark = pytest.mark.usefixtures("nan_in_empty")

dtypes = pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
features = pytest.mark.parametrize("features", [1, 65, 2100])


def triton_rows():
    from unmask.kernels import rows_triton

    return rows_triton


def draw(*shape, device="cpu", dtype=torch.float32, seed=0):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3
    return x.to(device, dtype).requires_grad_()


def stock_norm(weight):
    norm = LlamaRMSNorm(len(weight), EPS).to(weight)
    norm.weight.data.copy_(weight)
    return norm.requires_grad_(False)


def assert_near(ours, theirs, tolerance):
    for actual, expected in zip(ours, theirs, strict=True):
        assert actual.dtype == expected.dtype
        gap = (actual.double() - expected.double()).abs().max() / expected.double().abs().max()
        assert gap <= tolerance


def with_gradients(function, leaves):
    out = function(*leaves)
    above = torch.linspace(-1, 2, out.numel(), device=out.device).view_as(out).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, above)]


@dtypes
@features
def test_the_norm_is_that_of_transformers(triton_device, dtype, features):
    x = draw(2, 3, features, device=triton_device, dtype=dtype)
    weight = draw(features, device=triton_device, dtype=dtype, seed=1).detach()
    theirs = with_gradients(stock_norm(weight), [x])
    ours = with_gradients(lambda x: triton_rows().rms_norm(x, weight, EPS), [x])
    if features == 1:  # the gradient of a sign is zero, but for rounding and the epsilon
        ours, theirs = ours[:1], theirs[:1]
    assert_near(ours, theirs, TOLERANCES[dtype])


@dtypes
@features
def test_the_gated_activation_is_that_of_transformers(triton_device, dtype, features):
    gate, up = (draw(2, 3, features, device=triton_device, dtype=dtype, seed=s) for s in (1, 2))
    # With identities for its projections the stock block is its activation.
    config = LlamaConfig(hidden_size=4, intermediate_size=4, num_attention_heads=1)
    stock: Any = LlamaMLP(config)
    stock.gate_proj, stock.down_proj = torch.nn.Identity(), torch.nn.Identity()

    def theirs(gate, up):
        stock.up_proj = lambda x: up
        return stock(gate)

    del stock.up_proj
    expected = with_gradients(theirs, [gate, up])
    assert_near(with_gradients(triton_rows().swiglu, [gate, up]), expected, TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_elsewhere_both_are_transformers(dtype):
    x, gate, up = (draw(5, 7, seed=s, dtype=dtype) for s in (1, 2, 3))
    weight = draw(7, seed=4, dtype=dtype).detach()
    ours = with_gradients(lambda x: kernels.rms_norm(x, weight, EPS), [x])
    theirs = with_gradients(stock_norm(weight), [x])
    assert torch.equal(ours[0], theirs[0])
    # In float64 the formula is the stock one; else backward is written out and rounds elsewhere.
    assert_near(ours[1:], theirs[1:], TOLERANCES.get(dtype, 0))
    assert torch.equal(kernels.swiglu(gate, up), torch.nn.functional.silu(gate) * up)


def test_a_weight_that_is_trained_keeps_its_gradient():
    x, weight = draw(5, 7), draw(7, seed=1)
    kernels.rms_norm(x, weight, EPS).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().min() > 0


def test_only_inputs_and_one_number_a_token_are_kept(triton_device):
    x, gate, up = (draw(6, 40, device=triton_device, seed=s) for s in (1, 2, 3))
    weight = torch.ones(40, device=triton_device)
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        triton_rows().rms_norm(x, weight, EPS)
        triton_rows().swiglu(gate, up)
    given = {tensor.data_ptr() for tensor in (x, weight, gate, up)}
    assert [tuple(t.shape) for t in kept if t.data_ptr() not in given] == [(6,)]


def test_backward_may_run_twice(triton_device):
    x, gate, up = (draw(4, 9, device=triton_device, seed=s) for s in (1, 2, 3))
    weight = torch.ones(9, device=triton_device)
    out = triton_rows().swiglu(triton_rows().rms_norm(x, weight, EPS) + gate, up).sum()
    first = torch.autograd.grad(out, [x, gate, up], retain_graph=True)
    second = torch.autograd.grad(out, [x, gate, up])
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_nan_in_one_token_stays_there(triton_device):
    clean = draw(4, 9, device=triton_device)
    poisoned = clean.detach().clone()
    poisoned[1] = float("nan")
    weight = torch.ones(9, device=triton_device)

    def both(x):
        return triton_rows().swiglu(triton_rows().rms_norm(x, weight, EPS), x)

    expected = with_gradients(both, [clean])
    for actual, right in zip(
        with_gradients(both, [poisoned.requires_grad_()]), expected, strict=True
    ):
        assert actual[1].isnan().all()
        assert torch.equal(actual[[0, 2, 3]], right[[0, 2, 3]])


def test_any_memory_layout_is_taken(triton_device):
    x = draw(4, 9, device=triton_device)
    strided = x.detach().T.contiguous().T.requires_grad_()
    assert not strided.is_contiguous()
    weight = torch.ones(9, device=triton_device)

    def both(x):
        return triton_rows().swiglu(triton_rows().rms_norm(x, weight, EPS), x)

    for actual, expected in zip(
        with_gradients(both, [strided]), with_gradients(both, [x]), strict=True
    ):
        assert torch.equal(actual, expected)
