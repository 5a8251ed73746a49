"""Packed attention as a loop over sentences: the definition that the others are tested against.

Runs in the dtype it is given. A token sees another when both are in one sentence, the distance is
below the window, and, in a causal sentence, the other is not to its right.
"""

from __future__ import annotations

import torch
from torch import Tensor


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.varlen_attention`."""
    group = query.shape[1] // key.shape[1]
    outputs = []
    for sentence, is_causal in enumerate(causal.tolist()):
        tokens = slice(int(cu_seqlens[sentence]), int(cu_seqlens[sentence + 1]))
        q = query[tokens].transpose(0, 1)  # [heads, length, head_dim]
        k = key[tokens].transpose(0, 1).repeat_interleave(group, dim=0)
        v = value[tokens].transpose(0, 1).repeat_interleave(group, dim=0)
        if cos is not None and sin is not None:
            q, k = (_rotated(x, cos.to(x.dtype), sin.to(x.dtype)) for x in (q, k))
        scores = q @ k.transpose(1, 2) * scale  # [heads, length, length]
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        seen = visible(q.shape[1], is_causal, window, q.device)
        weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
        outputs.append((weights @ v).transpose(0, 1))
    return torch.cat(outputs)


def visible(length: int, causal: bool, window: int | None, device: torch.device) -> Tensor:
    """bool [length, length]: may the token of the row see the token of the column?"""
    index = torch.arange(length, device=device)
    distance = index[:, None] - index[None, :]
    seen = distance >= 0 if causal else torch.ones_like(distance, dtype=torch.bool)
    if window is not None:
        seen = seen & (distance.abs() < window)
    return seen


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The halves of x [heads, length, head_dim] as one complex number, times e^(i angle)."""
    length, half = x.shape[1], x.shape[2] // 2
    real, imaginary = x[..., :half], x[..., half:]
    c, s = cos[:length], sin[:length]
    return torch.cat([real * c - imaginary * s, real * s + imaginary * c], dim=-1)
