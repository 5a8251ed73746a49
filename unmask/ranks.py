"""Several processes train one stack of runs: each takes a part of every micro-batch.

    rank           |----- 0 -----|-------- 1 --------|
    micro-batch    s0   s1   s2  | s3        s4          sentences of one run, in order
    loss           sum over own words / words of the whole micro-batch
    gradient       summed over ranks, so that it is that of the whole micro-batch

Every rank holds all adapters, clips and steps like the others, and so ends every step with the
same weights. The one thing that is easy to get wrong: a mean over ranks of means over words would
weigh words by who has them. Dropout is counted from where a rank's part begins, so the runs end
where they end on one process, however many share them.

What is decided must be decided alike: `agree` takes the first rank's word. What is written, the
first rank writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from unmask.data.alignment import IGNORED_LABEL, EncodedSentence

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What one rank has of the micro-batches of all runs.

    `shares` [runs]: labelled words here over labelled words everywhere. `num_tokens` [runs]: of
    the whole micro-batch. `first_tokens` [runs]: how many of them come before this part.
    """

    sentences: tuple[tuple[EncodedSentence, ...], ...]
    shares: tuple[float, ...]
    num_tokens: tuple[int, ...]
    first_tokens: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many that train together."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Of the process group, where there is one."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and says things."""
        return self.rank == 0

    def agree(self, decide: Callable[[], T]) -> T:
        """What the first rank decides; the others wait for it and do not call `decide`."""
        if self.size == 1:
            return decide()
        decided = [decide() if self.is_first else None]
        dist.broadcast_object_list(decided, src=0)
        return cast("T", decided[0])

    def gather(self, own: T) -> list[T]:
        """What every rank has, in their order, for all of them."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, own)
        return found

    def part(self, batches: Sequence[Sequence[EncodedSentence]]) -> Part:
        """This rank's part of one micro-batch per run, in stretches of about as many tokens.

        A rank with nothing at all gets a sentence without labels: it must take part in every
        forward pass, because the others wait for it.
        """
        totals = tuple(sum(len(s.token_ids) for s in sentences) for sentences in batches)
        if self.size == 1:
            whole = tuple(map(tuple, batches))
            return Part(whole, (1.0,) * len(whole), totals)
        chosen, shares, first_tokens = [], [], []
        for sentences in batches:
            lengths = [len(sentence.token_ids) for sentence in sentences]
            begin, end = self._stretch(lengths)
            own = tuple(sentences[begin:end])
            chosen.append(own)
            shares.append(_num_words(own) / max(_num_words(sentences), 1))
            first_tokens.append(sum(lengths[:begin]))
        if not any(chosen):
            run = next(index for index, sentences in enumerate(batches) if sentences)
            chosen[run] = (_without_labels(batches[run][0]),)
        return Part(tuple(chosen), tuple(shares), totals, tuple(first_tokens))

    def _stretch(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Begin and end of this rank's sentences: those whose middle token falls into its part."""
        total = sum(lengths)
        ends = accumulate(lengths)
        owners = [
            min(int((end - length / 2) * self.size / total), self.size - 1)
            for end, length in zip(ends, lengths, strict=True)
        ]
        begin = sum(owner < self.rank for owner in owners)
        return begin, begin + owners.count(self.rank)

    def sum_gradients(self, gradients: Sequence[Tensor]) -> None:
        """Sum over ranks, in place, tensors that all of them have."""
        if self.size == 1:
            return
        # One message in place of hundreds.
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        pieces = flat.split([gradient.numel() for gradient in gradients])
        for gradient, piece in zip(gradients, pieces, strict=True):
            gradient.copy_(piece.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor that all of them have."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values


def _num_words(sentences: Iterable[EncodedSentence]) -> int:
    return sum(label != IGNORED_LABEL for s in sentences for label in s.label_ids)


def _without_labels(sentence: EncodedSentence) -> EncodedSentence:
    return replace(sentence, label_ids=(IGNORED_LABEL,) * len(sentence.label_ids))
