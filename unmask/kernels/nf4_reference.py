"""4-bit NormalFloat to numbers by table look-up: the definition that Triton is tested against.

The format is that of bitsandbytes (Dettmers et al., arXiv 2305.14314, section 3): every weight is
a 4-bit index into sixteen levels, every block of 64 has the scale that its largest weight had,
and with double quantisation these scales are themselves 8-bit indices into 256 levels, with one
scale for 256 of them and one offset for all.
"""

from __future__ import annotations

import torch
from torch import Tensor

NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""Quantiles of a normal distribution (the paper's appendix E), exact in float32."""


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
    if absmax_levels is not None and absmax_scale is not None and absmax_offset is not None:
        blocks = torch.arange(absmax.numel(), device=absmax.device) // absmax_block_size
        absmax = absmax_levels[absmax.long()] * absmax_scale[blocks] + absmax_offset
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=1).flatten().long()
    levels = torch.tensor(NF4_LEVELS, device=packed.device)
    scale = absmax.repeat_interleave(block_size)[: len(codes)]
    weights = (levels[codes] * scale).to(dtype)
    return weights[: torch.Size(shape).numel()].view(shape)
