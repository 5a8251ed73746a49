"""Packed attention for any device: sentences of like length go to one padded SDPA call.

PyTorch's scaled-dot-product attention wants rectangles. Sentences are sorted into bins by length
(beyond `SMALLEST_BIN` tokens a bin's longest is at most twice its shortest), the bins lie one
after another in one padded buffer, and the per-sentence flags become one additive mask per bin.

    pack      a a a b c c
    buffer    a a a b b b c c c      one bin of three sentences, three places each
    fill      0 1 2 3 3 3 4 5 5      the token copied to each place
    places    0 1 2 3 6 7            the place whose output each token takes

A place left over repeats the last token of its sentence: finite, masked, its output dropped. So a
sentence's result does not depend on its neighbours, and what is left over gets no gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.kernels.rotary import places as places_in_sentence
from unmask.kernels.rotary import rotate

SMALLEST_BIN = 16
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
    cos: Tensor | None = None,
    sin: Tensor | None = None,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.varlen_attention`."""
    layout = _layout(tuple(cu_seqlens.tolist()), query.device)
    if cos is not None and sin is not None:
        query, key = (rotate(x, layout.places_in_sentence, cos, sin) for x in (query, key))
    masks = layout.masks(tuple(causal.tolist()), window, query.dtype)
    buffers = _Fill.apply(query, key, value, layout)
    rectangles = zip(*(layout.rectangles(buffer) for buffer in buffers), masks, strict=True)
    outputs = [
        _attend(q, k, v, mask, scale, softcap).transpose(1, 2).flatten(0, 1)
        for q, k, v, mask in rectangles
    ]
    return _Take.apply(outputs[0] if len(outputs) == 1 else torch.cat(outputs), layout)


class _Bin(NamedTuple):
    sentences: Tensor
    """int64 [sentences], their indices in the pack."""
    lengths: Tensor
    """int64 [sentences]."""
    longest: int


class _Layout:
    """Where the tokens of a pack stand in the padded buffer, and what they see there.

    Attributes:
        bins: short sentences first.
        fill: int64 [places].
        places: int64 [tokens].
        places_in_sentence: int64 [tokens], each counted from its own sentence's first token.
    """

    # What is built while validating serves training too, so it must not become inference tensors.
    @torch.inference_mode(False)
    def __init__(self, offsets: tuple[int, ...], device: torch.device) -> None:
        starts = torch.tensor(offsets, device=device)
        self.bins = _bins(starts.diff())
        self.places_in_sentence = places_in_sentence(starts)
        self._masks: dict[tuple[object, ...], list[Tensor]] = {}
        fill, real = [], []
        for sentences, lengths, longest in self.bins:
            index = torch.arange(longest, device=device)
            fill.append(starts[sentences, None] + index.minimum(lengths[:, None] - 1))
            real.append(index < lengths[:, None])
        self.fill = torch.cat([part.flatten() for part in fill])
        real_places = torch.cat([part.flatten() for part in real]).nonzero().flatten()
        self.places = torch.empty_like(real_places)
        self.places[self.fill[real_places]] = real_places

    def rectangles(self, buffer: Tensor) -> list[Tensor]:
        """A buffer [places, heads, head_dim] as one [sentences, heads, longest, head_dim] a bin."""
        sizes = [len(group.sentences) * group.longest for group in self.bins]
        parts = [buffer] if len(sizes) == 1 else buffer.split(sizes)
        return [
            part.view(-1, group.longest, *buffer.shape[1:]).transpose(1, 2)
            for part, group in zip(parts, self.bins, strict=True)
        ]

    @torch.inference_mode(False)
    def masks(
        self, causal: tuple[bool, ...], window: int | None, dtype: torch.dtype
    ) -> list[Tensor]:
        """For each bin [sentences, 1, longest, longest], 0 or -inf; kept for the next layer."""
        key = (causal, window, dtype)
        if key not in self._masks:
            flags = torch.tensor(causal, device=self.fill.device)
            self._masks[key] = [
                torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(
                    ~seen, float("-inf")
                )
                for seen in (_seen(group, flags[group.sentences], window) for group in self.bins)
            ]
        return self._masks[key]


@lru_cache(maxsize=2)
def _layout(offsets: tuple[int, ...], device: torch.device) -> _Layout:
    """Remembered by content: every layer of a forward pass asks for the same one."""
    return _Layout(offsets, device)


def _bins(lengths: Tensor) -> list[_Bin]:
    """Sentences by powers of two of their length; empty ones are in no bin."""
    power = (lengths.clamp(min=SMALLEST_BIN) - 1).double().log2().floor()
    power[lengths == 0] = -1
    groups = [(power == value).nonzero().flatten() for value in power.unique() if value >= 0]
    return [_Bin(group, lengths[group], int(lengths[group].max())) for group in groups]


def _seen(group: _Bin, causal: Tensor, window: int | None) -> Tensor:
    """bool [sentences, 1, longest, longest]; leftover places see themselves, to stay finite."""
    index = torch.arange(group.longest, device=causal.device)
    distance = index[:, None] - index[None, :]
    seen = index < group.lengths[:, None, None, None]
    seen = seen & (~causal[:, None, None, None] | (distance >= 0))
    if window is not None:
        seen = seen & (distance.abs() < window)
    return seen | (distance == 0)


def _attend(
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
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: _Layout
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
    def forward(ctx: Any, buffer: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        return buffer.index_select(0, layout.places)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        zeros = grad.new_zeros(len(ctx.layout.fill), *grad.shape[1:])
        return zeros.index_copy_(0, ctx.layout.places, grad), None
