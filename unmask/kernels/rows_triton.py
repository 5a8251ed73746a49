"""What a decoder block does to each token by itself, in one Triton launch each way.

Kept for backward are inputs only, and one number a token where a norm needs it. Nothing is
written over, so backward may run again. A token's numbers depend on no other token.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.autocast import differentiable_once
from unmask.kernels.interpreter import must_emulate, narrow

BLOCK = 1024
"""Elements of a program of the gated activation."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.rms_norm`."""
    return _RmsNorm.apply(x, weight, eps)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.swiglu`."""
    return _SwiGlu.apply(gate, up)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        features = x.shape[-1]
        output = torch.empty_like(x)
        inverse = torch.empty(x.numel() // features, dtype=torch.float32, device=x.device)
        _norm_kernel[(len(inverse),)](x, weight, output, inverse, eps, **_row(x))
        ctx.save_for_backward(x, weight, inverse)
        return output

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        grad_x = torch.empty_like(x)
        _norm_grad_kernel[(len(inverse),)](x, weight, inverse, grad.contiguous(), grad_x, **_row(x))
        return grad_x, None, None


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        output = torch.empty_like(gate)
        _swiglu_kernel[_grid(gate)](gate, up, output, **_flat(gate))
        ctx.save_for_backward(gate, up)
        return output

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        grad_gate, grad_up = torch.empty_like(gate), torch.empty_like(up)
        _swiglu_grad_kernel[_grid(gate)](
            gate, up, grad.contiguous(), grad_gate, grad_up, **_flat(gate)
        )
        return grad_gate, grad_up


def _row(x: Tensor) -> dict[str, Any]:
    """Constants of a program that takes one token; they follow from the number of features."""
    features = x.shape[-1]
    return {
        "FEATURES": features,
        "WIDTH": triton.next_power_of_2(features),
        "EMULATE": must_emulate(x.dtype),
        "num_warps": 4 if features <= 2048 else 8,
        "enable_fp_fusion": True,
    }


def _grid(x: Tensor) -> tuple[int]:
    return (triton.cdiv(x.numel(), BLOCK),)


def _flat(x: Tensor) -> dict[str, Any]:
    """For a program that takes elements of any tokens; constants follow from the features."""
    vector = math.gcd(x.shape[-1], 16)
    return {
        "num_vectors": x.numel() // vector,
        "BLOCK": BLOCK,
        "VECTOR": vector,
        "EMULATE": must_emulate(x.dtype),
        "num_warps": 4,
        "enable_fp_fusion": True,
    }


@triton.jit
def _norm_kernel(
    x, weight, output, inverse, eps,
    FEATURES: tl.constexpr, WIDTH: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """One token. As in transformers the norm is rounded before the weight multiplies it."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    kept = column < FEATURES
    dtype = x.dtype.element_ty
    value = tl.load(x + row * FEATURES + column, mask=kept, other=0.0).to(tl.float32)
    factor = tl.load(weight + column, mask=kept, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt_rn(tl.sum(value * value, 0) / FEATURES + eps)
    norm = narrow(value * scale, dtype, EMULATE).to(tl.float32)
    tl.store(inverse + row, scale)
    tl.store(output + row * FEATURES + column, narrow(factor * norm, dtype, EMULATE), mask=kept)


@triton.jit
def _norm_grad_kernel(
    x, weight, inverse, grad, grad_x,
    FEATURES: tl.constexpr, WIDTH: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """Gradient of one token; the weight is frozen and gets none."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    kept = column < FEATURES
    place = row * FEATURES + column
    scale = tl.load(inverse + row)
    norm = tl.load(x + place, mask=kept, other=0.0).to(tl.float32) * scale
    factor = tl.load(weight + column, mask=kept, other=0.0).to(tl.float32)
    above = tl.load(grad + place, mask=kept, other=0.0).to(tl.float32) * factor
    along = tl.sum(above * norm, 0) / FEATURES
    result = (above - norm * along) * scale
    tl.store(grad_x + place, narrow(result, x.dtype.element_ty, EMULATE), mask=kept)


@triton.jit
def _own_elements(num_vectors, BLOCK: tl.constexpr, VECTOR: tl.constexpr):
    """Places of a program's elements, and which are there: all or none of VECTOR neighbours.

    Not knowing that, the compiler would load element by element, in four times the time.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return place, place < num_vectors.to(tl.int64) * VECTOR


@triton.jit(do_not_specialize=["num_vectors"])
def _swiglu_kernel(
    gate, up, output, num_vectors, BLOCK: tl.constexpr, VECTOR: tl.constexpr, EMULATE: tl.constexpr
):
    """BLOCK elements. As in transformers silu is rounded before it multiplies."""
    place, kept = _own_elements(num_vectors, BLOCK, VECTOR)
    dtype = gate.dtype.element_ty
    g = tl.load(gate + place, mask=kept, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=kept, other=0.0).to(tl.float32)
    silu = narrow(g / (1.0 + tl.exp(-g)), dtype, EMULATE).to(tl.float32)
    tl.store(output + place, narrow(silu * u, dtype, EMULATE), mask=kept)


@triton.jit(do_not_specialize=["num_vectors"])
def _swiglu_grad_kernel(
    gate, up, grad, grad_gate, grad_up, num_vectors,
    BLOCK: tl.constexpr, VECTOR: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """Gradients of BLOCK elements of both factors."""
    place, kept = _own_elements(num_vectors, BLOCK, VECTOR)
    dtype = gate.dtype.element_ty
    g = tl.load(gate + place, mask=kept, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=kept, other=0.0).to(tl.float32)
    above = tl.load(grad + place, mask=kept, other=0.0).to(tl.float32)
    sigmoid = 1.0 / (1.0 + tl.exp(-g))
    slope = sigmoid * (1.0 + g * (1.0 - sigmoid))
    tl.store(grad_gate + place, narrow(above * u * slope, dtype, EMULATE), mask=kept)
    tl.store(grad_up + place, narrow(above * g * sigmoid, dtype, EMULATE), mask=kept)
