"""Low-rank updates of many runs in Triton: four launches a layer and pass, however many runs.

Two kernels. One multiplies the tokens of every run by that run's own matrix and adds what the
frozen layer gave; the other sums outer products over the tokens of every run. Dropout is hashed
where it is needed and never stored. Tiles begin at a run's own first token and sums go through
them in order, so a run's numbers are the same bits alone and fused, and nothing is added to
memory by two programs.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.autocast import differentiable_once
from unmask.kernels.dropout import FIRST_FACTOR, PLACE_FACTOR, SECOND_FACTOR, Dropout
from unmask.kernels.interpreter import must_emulate, narrow, product
from unmask.kernels.lora_autograd import low_rank_update
from unmask.kernels.slots import SEARCH_BLOCK, find_slot, num_slots

BLOCK_TOKENS = 32
BLOCK_FEATURES = 64
SUM_BLOCK = 1024
NARROW = 256
"""Up to so many output features a long sum is cut into parts,"""
SPLIT_FEATURES = 512
"""each of about so many input features."""


def grouped_lora(
    base: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    run_offsets: Tensor,
    scale: float,
    dropout: Dropout | None = None,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_lora`."""
    products = _TritonProducts(run_offsets, x.device, dropout)
    return low_rank_update(base, x, lora_a, lora_b, products, scale, dropout)


class _TritonProducts:
    """`unmask.kernels.lora_autograd.Products` in one launch each; no mask is kept."""

    def __init__(self, run_offsets: Tensor, device: torch.device, dropout: Dropout | None) -> None:
        self.offsets = on_device(run_offsets, device)
        self.draws, self.threshold = self.offsets, 0
        if dropout is not None:
            self.draws = on_device(dropout.draws, device)
            self.threshold = dropout.threshold
        self.drops = dropout is not None

    def mask(self, x: Tensor) -> None:
        return None

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        scale: float = 1.0,
        base: Tensor | None = None,
        drop_input: bool = False,
        drop_output: bool = False,
        mask: None = None,
    ) -> Tensor:
        num_runs, out_features, in_features = weight.shape
        out = x.new_empty(len(x), out_features)
        splits = 1 if base is not None or drop_output else _num_splits(in_features, out_features)
        parts = out
        if splits > 1:
            parts = torch.empty(splits, *out.shape, dtype=torch.float32, device=x.device)
        slots = num_slots(len(x), num_runs, BLOCK_TOKENS)
        _linear_kernel[(slots, triton.cdiv(out_features, BLOCK_FEATURES), splits)](
            x.contiguous(), weight, None if base is None else base.contiguous(), parts,
            self.offsets, self.draws,
            len(x), num_runs, self.threshold, scale, *weight.stride(),
            IN=in_features, OUT=out_features, HAS_BASE=base is not None,
            DROP_INPUT=self.drops and drop_input, DROP_OUTPUT=self.drops and drop_output,
            SPLIT=triton.cdiv(in_features, splits * BLOCK_FEATURES) * BLOCK_FEATURES,
            **_constants(x.dtype),
        )  # fmt: skip
        if splits > 1:
            _sum_kernel[(triton.cdiv(out.numel(), SUM_BLOCK),)](
                parts, out, out.numel(), SPLITS=splits, SUM_BLOCK=SUM_BLOCK,
                EMULATE=must_emulate(x.dtype), num_warps=4, enable_fp_fusion=True,
            )  # fmt: skip
        return out

    def outer(
        self,
        left: Tensor,
        right: Tensor,
        like: Tensor,
        drop_right: bool = False,
        mask: None = None,
    ) -> Tensor:
        num_runs, left_features, right_features = like.shape
        out = torch.empty(like.shape, dtype=torch.float32, device=like.device)
        grid = [triton.cdiv(size, BLOCK_FEATURES) for size in (left_features, right_features)]
        _outer_kernel[(*grid, num_runs)](
            left.contiguous(), right.contiguous(), out, self.offsets, self.draws, self.threshold,
            LEFT=left_features, RIGHT=right_features, DROP_RIGHT=self.drops and drop_right,
            **_constants(left.dtype),
        )  # fmt: skip
        return out.to(like.dtype)


def grouped_linear(
    x: Tensor, weight: Tensor, run_offsets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_linear`."""
    return _GroupedLinear.apply(x, weight, bias, _TritonProducts(run_offsets, x.device, None))


class _GroupedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, products: _TritonProducts
    ) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.products = products
        base = None if bias is None else products.linear(x.new_ones(len(x), 1), bias[:, :, None])
        return products.linear(x, weight, base=base)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        x, weight, bias = ctx.saved_tensors
        products: _TritonProducts = ctx.products
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        grad_x = products.linear(grad, weight.transpose(1, 2)) if needs_x else None
        grad_weight = products.outer(grad, x, weight) if needs_weight else None
        grad_bias = None
        if needs_bias:
            grad_bias = products.outer(grad, grad.new_ones(len(grad), 1), bias[:, :, None])[..., 0]
        return grad_x, grad_weight, grad_bias, None


def dropped(x: Tensor, run_offsets: Tensor, dropout: Dropout) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.dropped`."""
    return _Dropped.apply(x, run_offsets, dropout)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, run_offsets: Tensor, dropout: Dropout) -> Tensor:
        ctx.call = run_offsets, dropout
        return _drop(x, run_offsets, dropout)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        return _drop(grad_outputs[0], *ctx.call), None, None


def _drop(x: Tensor, run_offsets: Tensor, dropout: Dropout) -> Tensor:
    offsets, draws = (on_device(v, x.device) for v in (run_offsets, dropout.draws))
    num_tokens, features = x.shape
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    slots = num_slots(num_tokens, len(offsets) - 1, BLOCK_TOKENS)
    constants = _constants(x.dtype)
    _drop_kernel[(slots, triton.cdiv(features, BLOCK_FEATURES))](
        x.contiguous(), out, offsets, draws,
        len(offsets) - 1, dropout.threshold, dropout.rescale,
        FEATURES=features, **{name: constants[name] for name in constants if name != "num_stages"},
    )  # fmt: skip
    return out


def _num_splits(in_features: int, out_features: int) -> int:
    """Parts that a long sum is cut into where there are few outputs to keep the device busy.

    From the sizes of the layer alone, so that a run's bits do not depend on who trains beside it.
    """
    return 1 if out_features > NARROW else max(1, in_features // SPLIT_FEATURES)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """int32 values on the device, which are not waited for where they are there already."""
    return values if values.device == device else _sent(tuple(values.flatten().tolist()), device)


@lru_cache(maxsize=256)
def _sent(values: tuple[int, ...], device: torch.device) -> Tensor:
    """Adapters of one pass and its recomputation ask for the same ones: they go there once."""
    return torch.tensor(values, dtype=torch.int32).to(device, non_blocking=True)


def _constants(dtype: torch.dtype) -> dict[str, Any]:
    return {
        "BLOCK_TOKENS": BLOCK_TOKENS,
        "BLOCK_FEATURES": BLOCK_FEATURES,
        "SEARCH_BLOCK": SEARCH_BLOCK,
        "PLACE_FACTOR": PLACE_FACTOR,
        "FIRST_FACTOR": FIRST_FACTOR,
        "SECOND_FACTOR": SECOND_FACTOR,
        "EMULATE": must_emulate(dtype),
        "num_warps": 4,
        "num_stages": 3,
        "enable_fp_fusion": True,
    }


@triton.jit
def _kept(
    tokens, features, key, threshold, FEATURES: tl.constexpr, PLACE_FACTOR: tl.constexpr,
    FIRST_FACTOR: tl.constexpr, SECOND_FACTOR: tl.constexpr,
):  # fmt: skip
    """`Dropout.kept` for tokens [n] of one run and features [m]: bool [n, m]."""
    WIDTH: tl.constexpr = (FEATURES + 1) // 2
    x = (tokens[:, None] * WIDTH + features[None, :] // 2) * PLACE_FACTOR
    x = x ^ key
    x = (x ^ ((x >> 16) & 0xFFFF)) * FIRST_FACTOR
    x = (x ^ ((x >> 15) & 0x1FFFF)) * SECOND_FACTOR
    x = x ^ ((x >> 16) & 0xFFFF)
    upper = (features % 2 == 1)[None, :]
    # Either half as a signed number of 16 bits.
    half = tl.where(upper, x >> 16, (x << 16) >> 16)
    return half >= threshold


@triton.jit(do_not_specialize=["num_tokens", "num_runs", "threshold"])
def _linear_kernel(
    x, weight, base, out, run_offsets, draws,
    num_tokens, num_runs, threshold, scale,
    weight_run_stride, weight_out_stride, weight_in_stride,
    IN: tl.constexpr, OUT: tl.constexpr, HAS_BASE: tl.constexpr,
    DROP_INPUT: tl.constexpr, DROP_OUTPUT: tl.constexpr, SPLIT: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr, BLOCK_FEATURES: tl.constexpr, SEARCH_BLOCK: tl.constexpr,
    PLACE_FACTOR: tl.constexpr, FIRST_FACTOR: tl.constexpr, SECOND_FACTOR: tl.constexpr,
    EMULATE: tl.constexpr,
):  # fmt: skip
    """BLOCK_TOKENS tokens of one run by BLOCK_FEATURES output features, over SPLIT inputs."""
    run, begin, length, tile_begin = find_slot(run_offsets, num_runs, BLOCK_TOKENS, SEARCH_BLOCK)
    if tile_begin >= length:
        return
    dtype = x.dtype.element_ty
    key, first_token = 0, 0
    if DROP_INPUT or DROP_OUTPUT:
        key, first_token = tl.load(draws + 2 * run), tl.load(draws + 2 * run + 1)
    weight += run.to(tl.int64) * weight_run_stride
    token = tile_begin + tl.arange(0, BLOCK_TOKENS)
    inside = (token < length)[:, None]
    row = begin + token[:, None]
    o = tl.program_id(1) * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    result = tl.zeros((BLOCK_TOKENS, BLOCK_FEATURES), tl.float32)
    first = tl.program_id(2) * SPLIT
    for start in range(0, SPLIT, BLOCK_FEATURES):
        i = first + start + tl.arange(0, BLOCK_FEATURES)
        piece = tl.load(x + row * IN + i[None, :], mask=inside & (i < IN)[None, :], other=0.0)
        if DROP_INPUT:
            kept = _kept(
                first_token + token, i, key, threshold, IN,
                PLACE_FACTOR, FIRST_FACTOR, SECOND_FACTOR,
            )  # fmt: skip
            piece = tl.where(kept, piece, 0.0)
        place = weight + i[:, None] * weight_in_stride + o[None, :] * weight_out_stride
        w = tl.load(place, mask=(i < IN)[:, None] & (o < OUT)[None, :], other=0.0)
        result += product(piece, narrow(w.to(tl.float32), dtype, EMULATE), EMULATE)
    result = result * scale
    if DROP_OUTPUT:
        kept = _kept(
            first_token + token, o, key, threshold, OUT,
            PLACE_FACTOR, FIRST_FACTOR, SECOND_FACTOR,
        )  # fmt: skip
        result = tl.where(kept, result, 0.0)
    mask = inside & (o < OUT)[None, :]
    if HAS_BASE:
        result += tl.load(base + row * OUT + o[None, :], mask=mask, other=0.0).to(tl.float32)
    place = out + (tl.program_id(2).to(tl.int64) * num_tokens + row) * OUT + o[None, :]
    if out.dtype.element_ty == tl.float32:
        tl.store(place, result, mask=mask)
    else:
        tl.store(place, narrow(result, dtype, EMULATE), mask=mask)


@triton.jit(do_not_specialize=["num_runs", "threshold"])
def _drop_kernel(
    x, out, run_offsets, draws, num_runs, threshold, rescale,
    FEATURES: tl.constexpr, BLOCK_TOKENS: tl.constexpr, BLOCK_FEATURES: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, PLACE_FACTOR: tl.constexpr, FIRST_FACTOR: tl.constexpr,
    SECOND_FACTOR: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """BLOCK_TOKENS tokens of one run by BLOCK_FEATURES features: dropped, or scaled up."""
    run, begin, length, tile_begin = find_slot(run_offsets, num_runs, BLOCK_TOKENS, SEARCH_BLOCK)
    if tile_begin >= length:
        return
    token = tile_begin + tl.arange(0, BLOCK_TOKENS)
    feature = tl.program_id(1) * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    place = (begin + token[:, None]) * FEATURES + feature[None, :]
    inside = (token < length)[:, None] & (feature < FEATURES)[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) * rescale
    key, first_token = tl.load(draws + 2 * run), tl.load(draws + 2 * run + 1)
    kept = _kept(
        first_token + token, feature, key, threshold, FEATURES,
        PLACE_FACTOR, FIRST_FACTOR, SECOND_FACTOR,
    )  # fmt: skip
    result = narrow(tl.where(kept, value, 0.0), x.dtype.element_ty, EMULATE)
    tl.store(out + place, result, mask=inside)


@triton.jit(do_not_specialize=["count"])
def _sum_kernel(
    parts, out, count,
    SPLITS: tl.constexpr, SUM_BLOCK: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """The sum over the first axis of `parts` [SPLITS, count], in order."""
    place = tl.program_id(0).to(tl.int64) * SUM_BLOCK + tl.arange(0, SUM_BLOCK)
    kept = place < count
    total = tl.zeros((SUM_BLOCK,), tl.float32)
    for split in range(0, SPLITS):
        total += tl.load(parts + split * count.to(tl.int64) + place, mask=kept, other=0.0)
    tl.store(out + place, narrow(total, out.dtype.element_ty, EMULATE), mask=kept)


@triton.jit(do_not_specialize=["threshold"])
def _outer_kernel(
    left, right, out, run_offsets, draws, threshold,
    LEFT: tl.constexpr, RIGHT: tl.constexpr, DROP_RIGHT: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr, BLOCK_FEATURES: tl.constexpr, SEARCH_BLOCK: tl.constexpr,
    PLACE_FACTOR: tl.constexpr, FIRST_FACTOR: tl.constexpr, SECOND_FACTOR: tl.constexpr,
    EMULATE: tl.constexpr,
):  # fmt: skip
    """One tile of the sum, over the tokens of one run, of left token by right token."""
    run = tl.program_id(2).to(tl.int64)
    begin = tl.load(run_offsets + run).to(tl.int64)
    length = (tl.load(run_offsets + run + 1) - begin).to(tl.int32)
    key, first_token = 0, 0
    if DROP_RIGHT:
        key, first_token = tl.load(draws + 2 * run), tl.load(draws + 2 * run + 1)
    m = tl.program_id(0) * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    n = tl.program_id(1) * BLOCK_FEATURES + tl.arange(0, BLOCK_FEATURES)
    result = tl.zeros((BLOCK_FEATURES, BLOCK_FEATURES), tl.float32)
    for start in range(0, length, BLOCK_TOKENS):
        token = start + tl.arange(0, BLOCK_TOKENS)
        inside = (token < length)[:, None]
        row = begin + token[:, None]
        a = tl.load(left + row * LEFT + m[None, :], mask=inside & (m < LEFT)[None, :], other=0.0)
        b = tl.load(right + row * RIGHT + n[None, :], mask=inside & (n < RIGHT)[None, :], other=0.0)
        if DROP_RIGHT:
            kept = _kept(
                first_token + token, n, key, threshold, RIGHT,
                PLACE_FACTOR, FIRST_FACTOR, SECOND_FACTOR,
            )  # fmt: skip
            b = tl.where(kept, b, 0.0)
        result += product(tl.trans(a), b, EMULATE)
    place = out + run * (LEFT * RIGHT) + m[:, None] * RIGHT + n[None, :]
    mask = (m < LEFT)[:, None] & (n < RIGHT)[None, :]
    tl.store(place, result, mask=mask)
