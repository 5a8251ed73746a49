"""4-bit NormalFloat to numbers in one Triton kernel, double quantisation included."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.interpreter import must_emulate, narrow
from unmask.kernels.nf4_reference import NF4_LEVELS

BYTES_PER_PROGRAM = 1024


def dequantize_nf4(
    packed: Tensor,
    absmax: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    block_size: int = 64,
    absmax_levels: Tensor | None = None,
    absmax_scale: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    absmax_block_size: int = 256,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.dequantize_nf4`."""
    weights = torch.empty(shape, dtype=dtype, device=packed.device)
    levels = torch.tensor(NF4_LEVELS, device=packed.device)
    grid = (triton.cdiv(packed.numel(), BYTES_PER_PROGRAM),)
    # Fused multiply-adds would round the scales differently from bitsandbytes.
    _dequantize_kernel[grid](
        packed, absmax, levels, absmax_levels, absmax_scale, absmax_offset, weights,
        weights.numel(), BLOCK_SIZE=block_size, ABSMAX_BLOCK_SIZE=absmax_block_size,
        DOUBLE=absmax_levels is not None, BYTES=BYTES_PER_PROGRAM, EMULATE=must_emulate(dtype),
        enable_fp_fusion=False,
    )  # fmt: skip
    return weights


@triton.jit
def _dequantize_kernel(
    packed, absmax, levels, absmax_levels, absmax_scale, absmax_offset, weights, num_weights,
    BLOCK_SIZE: tl.constexpr, ABSMAX_BLOCK_SIZE: tl.constexpr, DOUBLE: tl.constexpr,
    BYTES: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """BYTES bytes, two weights each: the high half of a byte comes first."""
    byte = tl.program_id(0).to(tl.int64) * BYTES + tl.arange(0, BYTES)
    kept = byte * 2 < num_weights
    codes = tl.load(packed + byte, mask=kept, other=0).to(tl.int32)
    block = byte * 2 // BLOCK_SIZE
    scale = tl.load(absmax + block, mask=kept, other=0)
    if DOUBLE:
        level = tl.load(absmax_levels + scale.to(tl.int32))
        scale_of_scale = tl.load(absmax_scale + block // ABSMAX_BLOCK_SIZE, mask=kept, other=0.0)
        scale = level * scale_of_scale + tl.load(absmax_offset)
    first = tl.load(levels + (codes >> 4)) * scale
    second = tl.load(levels + (codes & 15)) * scale
    result = narrow(tl.interleave(first, second), weights.dtype.element_ty, EMULATE)
    place = tl.program_id(0).to(tl.int64) * (2 * BYTES) + tl.arange(0, 2 * BYTES)
    tl.store(weights + place, result, mask=place < num_weights)
