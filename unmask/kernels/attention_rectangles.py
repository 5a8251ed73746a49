"""Packed attention for any device: sentences of like length go to one padded SDPA call.

PyTorch's scaled-dot-product attention wants rectangles. Sentences are sorted into bins by length
(a bin's longest is at most twice its shortest), each bin is copied into a rectangle, and the
per-sentence flags become one boolean mask. Padding is masked, never seen, and its outputs are
dropped, so a sentence's result does not depend on its neighbours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

SMALLEST_BIN = 32
"""Sentences up to this length share a bin: below it a launch costs more than the padding."""


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
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.varlen_attention`."""
    lengths = cu_seqlens.diff().long()
    bins = _bins(lengths, max_seqlen)
    if len(bins) == 1:
        rows = _flat_rows(lengths, max_seqlen)
        return _rectangle(
            query, key, value, rows, lengths, max_seqlen, causal, scale, window, softcap
        )
    starts = cu_seqlens[:-1].long()
    outputs, places = [], []
    for sentences in bins:
        bin_lengths = lengths[sentences]
        longest = int(bin_lengths.max())
        rows = _flat_rows(bin_lengths, longest)
        tokens = rows - torch.repeat_interleave(
            torch.arange(len(sentences), device=rows.device) * longest - starts[sentences],
            bin_lengths,
        )
        q, k, v = (_Take.apply(x, tokens) for x in (query, key, value))
        outputs.append(
            _rectangle(
                q, k, v, rows, bin_lengths, longest, causal[sentences], scale, window, softcap
            )
        )
        places.append(tokens)
    return _Put.apply(torch.cat(outputs), torch.cat(places), query.shape[0])


def _bins(lengths: Tensor, max_seqlen: int) -> list[Tensor]:
    """Sentence indices by powers of two of their length."""
    if max_seqlen <= SMALLEST_BIN:
        return [torch.arange(len(lengths), device=lengths.device)]
    power = (lengths.clamp(min=SMALLEST_BIN) - 1).double().log2().floor()
    return [(power == value).nonzero().flatten() for value in power.unique()]


def _flat_rows(lengths: Tensor, longest: int) -> Tensor:
    """Where each token goes in a flattened [sentences, longest] rectangle, int64 [tokens]."""
    index = torch.arange(longest, device=lengths.device)
    return (index[None, :] < lengths[:, None]).flatten().nonzero().flatten()


def _rectangle(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Tensor,
    lengths: Tensor,
    longest: int,
    causal: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    size = len(lengths) * longest
    q, k, v = (
        _Put.apply(x, rows, size).view(len(lengths), longest, *x.shape[1:]).transpose(1, 2)
        for x in (query, key, value)
    )  # [sentences, heads, longest, head_dim]
    mask = _mask(lengths, longest, causal, window)[:, None]
    if softcap is None:
        grouped = q.shape[1] != k.shape[1]
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=scale, enable_gqa=grouped
        )
    else:
        out = _softcapped(q, k, v, mask, scale, softcap)
    return _Take.apply(out.transpose(1, 2).reshape(size, *query.shape[1:]), rows)


def _mask(lengths: Tensor, longest: int, causal: Tensor, window: int | None) -> Tensor:
    """bool [sentences, longest, longest]; rows of padding see themselves, to stay finite."""
    index = torch.arange(longest, device=lengths.device)
    distance = index[:, None] - index[None, :]
    seen = (index[None, None, :] < lengths[:, None, None]) & (
        ~causal[:, None, None] | (distance >= 0)
    )
    if window is not None:
        seen = seen & (distance.abs() < window)
    return seen | (distance == 0)


def _softcapped(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float, softcap: float
) -> Tensor:
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scale / softcap))
    precise = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=-1, dtype=precise)
    return weights.to(v.dtype) @ v


class _Put(torch.autograd.Function):
    """Rows of x to distinct places of a zero tensor; both directions are plain copies."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rows: Tensor, size: int) -> Tensor:
        ctx.rows = rows  # pyright: ignore[reportAttributeAccessIssue]
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, rows, x)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad.index_select(0, ctx.rows), None, None


class _Take(torch.autograd.Function):
    """Distinct rows of x; the inverse of `_Put`."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.size = rows, x.shape[0]  # pyright: ignore[reportAttributeAccessIssue]
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        zeros = grad.new_zeros(ctx.size, *grad.shape[1:])
        return zeros.index_copy_(0, ctx.rows, grad), None
