"""Rotary position embedding of packed sentences, for the implementations that do not fuse it."""

from __future__ import annotations

import torch
from torch import Tensor


def rotate(x: Tensor, cu_seqlens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of every head by the angle of their position.

    Args:
        x: [tokens, heads, head_dim].
        cu_seqlens: int32 [sentences + 1].
        cos: [positions, head_dim / 2]; row p serves the token p of every sentence.
        sin: the same.

    Returns:
        As `x`, in its dtype, computed in that of the tables where they are more precise.
    """
    starts = cu_seqlens[:-1].long().repeat_interleave(cu_seqlens.diff().long())
    positions = torch.arange(len(x), device=x.device) - starts
    c, s = cos[positions, None], sin[positions, None]
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * c - second * s, second * c + first * s], dim=-1).to(x.dtype)
