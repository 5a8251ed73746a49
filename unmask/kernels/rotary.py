"""Rotary position embedding of packed sentences, for the implementations that do not fuse it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unmask.kernels.autocast import differentiable_once


def places(cu_seqlens: Tensor) -> Tensor:
    """Place of every token in its own sentence, int64 [tokens], from [sentences + 1]."""
    lengths = cu_seqlens.diff().long()
    starts = cu_seqlens[:-1].long().repeat_interleave(lengths)
    return torch.arange(len(starts), device=starts.device) - starts


def full_angles(cos: Tensor, sin: Tensor, places: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Tables by place spread over tokens and heads, so that turning is dense arithmetic.

    Args:
        cos: [positions, head_dim / 2]; row p serves the token p of every sentence.
        sin: the same.
        places: int64 [tokens], of every token in its sentence.
        heads: to spread them over.

    Returns:
        Cosines and sines [tokens, heads, head_dim]; the first half of the sines is negative.
    """
    c, s = cos[places, None], sin[places, None]
    both = torch.cat([c, c], dim=-1), torch.cat([-s, s], dim=-1)
    first, second = (x.expand(-1, heads, -1).contiguous() for x in both)
    return first, second


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of every head by an angle of their token.

    Args:
        x: [tokens, heads, head_dim].
        cos: [tokens, as many heads or more, head_dim], as `full_angles` makes it. A constant.
        sin: the same.

    Returns:
        As `x`, in its dtype, computed in that of the tables where they are more precise.
    """
    return _Rotate.apply(x, cos, sin)


class _Rotate(torch.autograd.Function):
    """The gradient is turned back; nothing of the input is needed for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad_outputs[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    heads = x.shape[1]
    precise = torch.promote_types(x.dtype, cos.dtype)
    c, s = (table[:, :heads].to(precise) for table in (cos, sin))
    turned = x.to(precise) * c
    swapped = torch.roll(x, x.shape[2] // 2, dims=2).to(precise)
    return turned.addcmul_(swapped, s, value=direction).to(x.dtype)
