"""Rotary position embedding of packed sentences, for the implementations that do not fuse it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def places(cu_seqlens: Tensor) -> Tensor:
    """Place of every token in its own sentence, int64 [tokens], from int32 [sentences + 1]."""
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    starts = starts.repeat_interleave(lengths)
    return torch.arange(len(starts), device=starts.device) - starts


def rotate(x: Tensor, places: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_dim / 2) of every head by the angle of their place.

    Args:
        x: [tokens, heads, head_dim].
        places: int64 [tokens], of every token in its sentence.
        cos: [positions, head_dim / 2]; row p serves the token p of every sentence. A constant.
        sin: the same.

    Returns:
        As `x`, in its dtype, computed in that of the tables where they are more precise.
    """
    return _Rotate.apply(x, cos[places, None], sin[places, None])


class _Rotate(torch.autograd.Function):
    """The gradient is turned back; nothing else of the input is needed for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grad_outputs[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    precise = torch.promote_types(x.dtype, cos.dtype)
    first, second = x.to(precise).chunk(2, dim=-1)
    cos, sin = cos.to(precise), sin.to(precise)
    out = torch.empty(x.shape, dtype=precise, device=x.device)
    left, right = out.chunk(2, dim=-1)
    torch.mul(first, cos, out=left).addcmul_(second, sin, value=-direction)
    torch.mul(second, cos, out=right).addcmul_(first, sin, value=direction)
    return out.to(x.dtype)
