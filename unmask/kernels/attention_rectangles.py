"""Packed attention for any device, in rectangles of sentences of like length.

Short sentences are written out as batched products, long ones go to PyTorch's scaled-dot-product
attention, each with an additive mask that holds the per-sentence flags.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.kernels.attention_layout import Layout, layout_of
from unmask.kernels.attention_written_out import attend
from unmask.kernels.rotary import rotate

LONGEST_WRITTEN_OUT = 128
"""Beyond it a fused kernel is as fast, and the weights that it does not keep are many."""


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
    layout = layout_of(tuple(cu_seqlens.tolist()), query.device)
    if cos is not None and sin is not None:
        angles = layout.angles(cos, sin, query.shape[1])
        query, key = rotate(query, *angles), rotate(key, *angles)
    # A CPU takes twenty times as long for batched products in float16 as in float32.
    can_be_written_out = softcap is None and query.dtype != torch.float16
    parts = layout.parts(LONGEST_WRITTEN_OUT) if can_be_written_out else []
    if len(parts) == 2:
        outputs = []
        for part in parts:
            q, k, v = (x.index_select(0, part.tokens) for x in (query, key, value))
            outputs.append(
                varlen_attention(
                    q, k, v, part.cu_seqlens, max_seqlen, causal[part.sentences], scale, window
                )
            )
        order = torch.cat([part.tokens for part in parts]).argsort()
        return torch.cat(outputs).index_select(0, order)
    flags = tuple(causal.tolist())
    if can_be_written_out and max(layout.lengths) <= LONGEST_WRITTEN_OUT:
        precise = torch.promote_types(query.dtype, torch.float32)
        return attend(query, key, value, layout, layout.masks(flags, window, precise), scale)
    masks = layout.masks(flags, window, query.dtype)
    buffers = _Fill.apply(query, key, value, layout)
    rectangles = zip(*(layout.rectangles(buffer) for buffer in buffers), masks, strict=True)
    outputs = [
        _fused(q, k, v, mask, scale, softcap).transpose(1, 2).flatten(0, 1)
        for q, k, v, mask in rectangles
    ]
    return _Take.apply(outputs[0] if len(outputs) == 1 else torch.cat(outputs), layout)


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float | None
) -> Tensor:
    """Attention in one rectangle, [sentences, heads, longest, head_dim]."""
    if softcap is None:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped
        )
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scale / softcap)) + mask
    precise = torch.promote_types(scores.dtype, torch.float32)
    return scores.softmax(dim=-1, dtype=precise).to(v.dtype) @ v


class _Fill(torch.autograd.Function):
    """Tokens to places. Places left over get no gradient, so backward is a plain copy too."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.layout = layout
        fill = layout.fill
        return query.index_select(0, fill), key.index_select(0, fill), value.index_select(0, fill)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value = (grad.index_select(0, ctx.layout.places) for grad in grad_outputs)
        return query, key, value, None


class _Take(torch.autograd.Function):
    """Places to tokens; the inverse of `_Fill`."""

    @staticmethod
    def forward(ctx: Any, buffer: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return buffer.index_select(0, layout.places)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        zeros = grad.new_zeros(len(ctx.layout.fill), *grad.shape[1:])
        return zeros.index_copy_(0, ctx.layout.places, grad), None
