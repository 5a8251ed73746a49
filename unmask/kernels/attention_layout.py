"""Where the tokens of a pack stand in rectangles, and what they see there.

Sentences are sorted into bins by length (beyond `SMALLEST_BIN` tokens a bin's longest is at most
twice its shortest), the bins lie one after another in one padded buffer, and the per-sentence
flags become one additive mask per bin.

    pack      a a a b c c
    buffer    a a a b b b c c c      one bin of three sentences, three places each
    fill      0 1 2 3 3 3 4 5 5      the token copied to each place
    places    0 1 2 3 6 7            the place whose output each token takes

A place left over repeats the last token of its sentence: finite, masked, its output dropped. So a
sentence's result does not depend on its neighbours, and what is left over gets no gradient.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from unmask.kernels.rotary import full_angles
from unmask.kernels.rotary import places as places_in_sentence

SMALLEST_BIN = 16
"""Sentences up to this length share a bin, which has this many places for each: below it a launch
costs more than the padding, and a softmax on a CPU over 14 scores ten times one over 16, which
fill a vector register."""


class Bin(NamedTuple):
    """Sentences of like length, which share a rectangle."""

    sentences: Tensor
    """int64 [sentences], their indices in the pack."""
    lengths: Tensor
    """int64 [sentences]."""
    longest: int

    @property
    def num_places(self) -> int:
        """Of its rectangle."""
        return len(self.sentences) * self.longest


class Part(NamedTuple):
    """Some sentences of a pack as a pack of their own."""

    tokens: Tensor
    """int64 [tokens of the part], their indices in the pack."""
    sentences: Tensor
    """int64 [sentences of the part]."""
    cu_seqlens: Tensor
    """int32 [sentences of the part + 1]."""


class Layout:
    """What follows from the lengths of a pack; what is made for one layer serves the next.

    Attributes:
        bins: short sentences first.
        lengths: of the sentences of the pack.
        fill: int64 [places].
        places: int64 [tokens].
    """

    # What is built while validating serves training too, so it must not become inference tensors.
    @torch.inference_mode(False)
    def __init__(self, offsets: tuple[int, ...], device: torch.device) -> None:
        self.starts = torch.tensor(offsets, device=device)
        self.lengths = self.starts.diff().tolist()
        self.bins = _bins(self.starts.diff())
        self._masks: dict[tuple[object, ...], list[Tensor]] = {}
        self._rows: dict[int, tuple[Tensor, Tensor]] = {}
        self._parts: dict[int, list[Part]] = {}
        self._angles: tuple[Tensor, Tensor, int, tuple[Tensor, Tensor]] | None = None
        fill, real = [], []
        for sentences, lengths, longest in self.bins:
            index = torch.arange(longest, device=device)
            fill.append(self.starts[sentences, None] + index.minimum(lengths[:, None] - 1))
            real.append(index < lengths[:, None])
        self.fill = torch.cat([part.flatten() for part in fill])
        real_places = torch.cat([part.flatten() for part in real]).nonzero().flatten()
        self.places = torch.empty_like(real_places)
        self.places[self.fill[real_places]] = real_places

    def rectangles(self, buffer: Tensor) -> list[Tensor]:
        """A buffer [places, heads, head_dim] as one [sentences, heads, longest, head_dim] a bin."""
        parts = buffer.split([group.num_places for group in self.bins])
        return [
            part.view(-1, group.longest, *buffer.shape[1:]).transpose(1, 2)
            for part, group in zip(parts, self.bins, strict=True)
        ]

    @torch.inference_mode(False)
    def masks(
        self, causal: tuple[bool, ...], window: int | None, dtype: torch.dtype
    ) -> list[Tensor]:
        """For each bin [sentences, 1, longest, longest], 0 or -inf."""
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

    @torch.inference_mode(False)
    def rows(self, kv_heads: int) -> tuple[Tensor, Tensor]:
        """The same copying where the heads of a sentence lie outside its places.

        Rows of a pack are [tokens, kv_heads], those of a bin [sentences, kv_heads, longest].

        Returns:
            int64 [places * kv_heads], the pack's row for each of the bins' rows, and int64
            [tokens * kv_heads], the bins' row for each of the pack's.
        """
        if kv_heads not in self._rows:
            heads = torch.arange(kv_heads, device=self.fill.device)
            by_place, start = [], 0
            for group in self.bins:
                count = group.num_places * kv_heads
                rows = torch.arange(start, start + count, device=self.fill.device)
                rows = rows.view(-1, kv_heads, group.longest).transpose(1, 2)
                by_place.append(rows.reshape(-1, kv_heads))
                start += count
            rows = torch.cat(by_place)
            fill = torch.empty_like(rows.flatten())
            fill[rows.flatten()] = (self.fill[:, None] * kv_heads + heads).flatten()
            self._rows[kv_heads] = fill, rows[self.places].flatten()
        return self._rows[kv_heads]

    @torch.inference_mode(False)
    def parts(self, longest: int) -> list[Part]:
        """Sentences up to `longest` tokens and the others, each without those that are empty."""
        if longest not in self._parts:
            lengths = self.starts.diff()
            chosen = [
                kept.nonzero().flatten()
                for kept in ((lengths > 0) & (lengths <= longest), lengths > longest)
            ]
            self._parts[longest] = [self._part(sentences) for sentences in chosen if len(sentences)]
        return self._parts[longest]

    def _part(self, sentences: Tensor) -> Part:
        lengths = self.starts.diff()
        owner = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        tokens = torch.isin(owner, sentences).nonzero().flatten()
        offsets = torch.zeros(len(sentences) + 1, dtype=torch.int32, device=lengths.device)
        offsets[1:] = lengths[sentences].cumsum(0)
        return Part(tokens, sentences, offsets)

    @torch.inference_mode(False)
    def angles(self, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of every token and head, for `unmask.kernels.rotary.rotate`.

        Layers of one pass hand in the same tables, which are recognised by identity.
        """
        known = self._angles
        if known is None or known[0] is not cos or known[1] is not sin or known[2] < heads:
            places = places_in_sentence(self.starts)
            self._angles = known = (cos, sin, heads, full_angles(cos, sin, places, heads))
        return known[3]


@lru_cache(maxsize=3)  # a pack, and its short and its long sentences
def layout_of(offsets: tuple[int, ...], device: torch.device) -> Layout:
    """Remembered by content: every layer of a forward pass asks for the same one."""
    return Layout(offsets, device)


def _bins(lengths: Tensor) -> list[Bin]:
    """Sentences by powers of two of their length; empty ones are in no bin."""
    # float32, for devices without float64, errs only where a million tokens are one sentence.
    power = (lengths.clamp(min=SMALLEST_BIN) - 1).float().log2().floor()
    power[lengths == 0] = -1
    groups = [(power == value).nonzero().flatten() for value in power.unique() if value >= 0]
    return [
        Bin(group, lengths[group], max(int(lengths[group].max()), SMALLEST_BIN)) for group in groups
    ]


def _seen(group: Bin, causal: Tensor, window: int | None) -> Tensor:
    """bool [sentences, 1, longest, longest]; leftover places see themselves, to stay finite."""
    index = torch.arange(group.longest, device=causal.device)
    distance = index[:, None] - index[None, :]
    seen = index < group.lengths[:, None, None, None]
    seen = seen & (~causal[:, None, None, None] | (distance >= 0))
    if window is not None:
        seen = seen & (distance.abs() < window)
    return seen | (distance == 0)
