"""Attention of short sentences, its scores written out: faster on a CPU than a fused kernel.

PyTorch's fused attention works through blocks far larger than a sentence. Batched products over
sentences and key heads, with a softmax between, take two thirds of its time up to a hundred tokens
(in bfloat16 a third), at the price of keeping the weights for backward. Query heads that share a
key head are rows of one product; the copy into rectangles also brings heads outside, so nothing is
transposed.

    queries   [sentences * kv_heads, longest * group, head_dim]
    keys      [sentences * kv_heads, longest, head_dim]
    scores    [sentences * kv_heads, longest * group, longest]
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from unmask.kernels.attention_layout import Layout
from unmask.kernels.autocast import differentiable_once


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, masks: list[Tensor], scale: float
) -> Tensor:
    """Attention within the sentences of a pack.

    Args:
        query: [tokens, heads, head_dim].
        key: [tokens, kv_heads, head_dim].
        value: [tokens, kv_heads, head_dim].
        layout: of the pack.
        masks: for each bin, additive, [sentences, 1, longest, longest], in the dtype of scores and
            softmax: float32 for half types, to which scores must not be rounded.
        scale: factor on the dot products.

    Returns:
        As `query`. Differentiable once.
    """
    return _Attend.apply(query, key, value, layout, masks, scale)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        layout: Layout,
        masks: list[Tensor],
        scale: float,
    ) -> Tensor:
        kv_heads = key.shape[1]
        q, k, v = (_filled(x, layout, kv_heads) for x in (query, key, value))
        out = torch.empty_like(q)
        kept = []
        for bins, mask in zip(_bins(layout, kv_heads, q, k, v, out), masks, strict=True):
            queries, keys, values, result = bins
            scaled = keys.to(mask.dtype) * scale  # fewer than queries, and not yet rounded
            scores = torch.bmm(queries.to(mask.dtype), scaled.transpose(1, 2))
            sentences, longest = mask.shape[0], mask.shape[2]
            by_mask = scores.view(sentences, kv_heads, longest, -1, longest)
            by_mask += mask[:, :, :, None]
            weights = torch.softmax(scores, dim=-1).to(values.dtype)
            torch.bmm(weights, values, out=result)
            kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.layout, ctx.scale = layout, scale
        return _taken(out, layout, kv_heads, query.shape)

    @staticmethod
    @differentiable_once
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, *kept = ctx.saved_tensors
        layout: Layout = ctx.layout
        kv_heads = q.shape[0] // len(layout.fill)
        head_dim = k.shape[1]
        _, rows = layout.rows(kv_heads)
        # A place left over has no gradient from above, so it passes none on.
        above = torch.zeros_like(q).index_copy_(0, rows, grad.reshape(len(rows), -1))
        grads = [torch.empty_like(x) for x in (q, k, v)]
        pieces = _bins(layout, kv_heads, q, k, v, above, *grads)
        for weights, (queries, keys, values, d_out, d_q, d_k, d_v) in zip(
            kept, pieces, strict=True
        ):
            torch.bmm(weights.transpose(1, 2), d_out, out=d_v)
            d_weights = torch.bmm(d_out, values.transpose(1, 2))
            d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            torch.bmm(d_scores, keys, out=d_q)
            torch.bmm(d_scores.transpose(1, 2), queries, out=d_k)
        for with_scale in grads[:2]:
            with_scale.mul_(ctx.scale)
        tokens = grad.shape[0]
        shapes = (grad.shape, *[(tokens, kv_heads, head_dim)] * 2)
        taken = (_taken(x, layout, kv_heads, shape) for x, shape in zip(grads, shapes, strict=True))
        return (*taken, None, None, None)


def _filled(x: Tensor, layout: Layout, kv_heads: int) -> Tensor:
    """[tokens, any heads, head_dim] as rows of the bins, [places * kv_heads, features]."""
    fill, _ = layout.rows(kv_heads)
    return x.reshape(len(x) * kv_heads, -1).index_select(0, fill)


def _taken(x: Tensor, layout: Layout, kv_heads: int, shape: tuple[int, ...]) -> Tensor:
    """Rows of the bins back to those of the pack, in `shape`."""
    _, rows = layout.rows(kv_heads)
    return x.index_select(0, rows).view(shape)


def _bins(layout: Layout, kv_heads: int, *rows: Tensor) -> Iterator[list[Tensor]]:
    """Of each bin the views of tensors of rows, [sentences * kv_heads, places, head_dim].

    Tensors with queries in their rows have as many places as queries share a key.
    """
    head_dim = min(x.shape[1] for x in rows)
    sizes = [group.num_places * kv_heads for group in layout.bins]
    split = [x.split(sizes) for x in rows]
    for index, group in enumerate(layout.bins):
        batch = len(group.sentences) * kv_heads
        yield [parts[index].view(batch, -1, head_dim) for parts in split]
