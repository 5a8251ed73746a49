"""PackedBatch: sentences of one or many runs laid end to end, with nothing between them.

    run            |------------ 0 -----------|------- 1 -------|
    sentence       |---- 0 ----|----- 1 ------|------- 2 -------|
    token_ids      EU rejects . Peter Blackb. Peter Blackburn    .
    position_ids    0    1    2    0     1       0      1        2
    cu_seqlens      0           3             5                  8
    run_offsets     0                         5                  8
    causal[:, l]    one flag per sentence for every layer l

No token is padding, so everything in a decoder that is not attention treats a pack as one long
sequence. The easy mistake is to forget that positions restart with every sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.data.alignment import IGNORED_LABEL, EncodedSentence


class Labelled(NamedTuple):
    """The labelled tokens of a pack."""

    places: Tensor
    """int64 [labelled], their indices."""
    label_ids: Tensor
    """int64 [labelled]."""
    run_offsets: Tensor
    """int32 [runs + 1] on the CPU, where each run's labelled tokens begin."""
    runs: Tensor
    """int64 [labelled], whose each is."""
    offsets_for_kernels: Tensor
    """`run_offsets`, on the device of the batch where that is a CUDA device."""


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Sentences end to end. Shapes: T tokens, S sentences, L layers, R runs.

    Raises:
        ValueError: when offsets, flags and tokens do not fit together. Checked on the CPU, once;
            `to` does not check again.
    """

    token_ids: Tensor
    """int64 [T]."""
    position_ids: Tensor
    """int64 [T], restarting at 0 with every sentence."""
    label_ids: Tensor
    """int64 [T], `IGNORED_LABEL` where nothing is predicted."""
    cu_seqlens: Tensor
    """int32 [S + 1], cumulative sentence lengths from 0 to T."""
    max_seqlen: int
    causal: Tensor
    """bool [S, L], True where the causal mask stays."""
    run_offsets: Tensor
    """int32 [R + 1] on the CPU, token index at which each run begins, from 0 to T."""

    def __post_init__(self) -> None:
        if self.token_ids.device.type == "cpu":
            self._check()

    def _check(self) -> None:
        tokens = self.token_ids.numel()
        for name in ("position_ids", "label_ids"):
            if getattr(self, name).shape != (tokens,):
                shape = tuple(getattr(self, name).shape)
                raise ValueError(f"packed batch: {name} has shape {shape}, expected ({tokens},)")
        # A sentence has tokens; a run may have none.
        for name, smallest in (("cu_seqlens", 1), ("run_offsets", 0)):
            offsets = getattr(self, name)
            steps = offsets.diff()
            if not len(steps) or offsets[0] or offsets[-1] != tokens or steps.min() < smallest:
                raise ValueError(
                    f"packed batch: {name} must rise from 0 to the {tokens} tokens in steps of at "
                    f"least {smallest}, got {offsets.tolist()}"
                )
        longest = int(self.lengths.max())
        if self.max_seqlen != longest:
            raise ValueError(
                f"packed batch: max_seqlen is {self.max_seqlen}, but the longest sentence has "
                f"{longest} tokens"
            )
        if self.causal.ndim != 2 or self.causal.shape[0] != self.num_sentences:
            raise ValueError(
                f"packed batch: causal has shape {tuple(self.causal.shape)}, expected one row of "
                f"flags for each of {self.num_sentences} sentences"
            )
        if self.causal.dtype != torch.bool:
            raise ValueError(f"packed batch: causal is {self.causal.dtype}, expected torch.bool")
        if not torch.isin(self.run_offsets, self.cu_seqlens).all():
            raise ValueError(
                "packed batch: a run must begin where a sentence begins; run offsets "
                f"{self.run_offsets.tolist()}, sentence offsets {self.cu_seqlens.tolist()}"
            )

    @property
    def num_tokens(self) -> int:
        """T."""
        return self.token_ids.numel()

    @property
    def num_sentences(self) -> int:
        """S."""
        return self.cu_seqlens.numel() - 1

    @property
    def num_runs(self) -> int:
        """R."""
        return self.run_offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """int32 [S], tokens of each sentence."""
        return self.cu_seqlens.diff()

    @cached_property
    def runs(self) -> Tensor:
        """int64 [T], whose each token is. Made where the batch is, without waiting for it."""
        device = self.token_ids.device
        ends = self.run_offsets_for_kernels[1:].to(device)
        places = torch.arange(self.num_tokens, dtype=ends.dtype, device=device)
        return torch.bucketize(places, ends, right=True)

    @cached_property
    def labelled(self) -> Labelled:
        """The tokens at which something is predicted. Found on the CPU, before `to`."""
        places = (self.label_ids != IGNORED_LABEL).nonzero().flatten()
        offsets = torch.searchsorted(places.cpu(), self.run_offsets.long()).int()
        return self._labelled_at(places, offsets)

    def _labelled_at(self, places: Tensor, offsets: Tensor) -> Labelled:
        runs = _repeated(torch.arange(self.num_runs), offsets.diff())
        device = places.device
        return Labelled(
            places, self.label_ids[places], offsets, runs.to(device), _for_kernels(offsets, device)
        )

    @cached_property
    def run_offsets_for_kernels(self) -> Tensor:
        """`run_offsets`; on the device of the batch where that is a CUDA device.

        There a grid of programs reads them, elsewhere a loop.
        """
        return _for_kernels(self.run_offsets, self.token_ids.device)

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch on `device`; run offsets stay on the host, which reads them.

        Nothing that a training step asks of the batch then waits for the device.
        """
        tensors = ("token_ids", "position_ids", "label_ids", "cu_seqlens", "causal")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in tensors}
        batch = replace(self, **moved)
        labelled = self.labelled
        # In the place where `cached_property` keeps it.
        batch.__dict__["labelled"] = Labelled(
            labelled.places.to(device, non_blocking=True),
            labelled.label_ids.to(device, non_blocking=True),
            labelled.run_offsets,
            labelled.runs.to(device, non_blocking=True),
            _for_kernels(labelled.run_offsets, torch.device(device)),
        )
        return batch

    def padded(self, num_tokens: int, num_labelled: int, fillers: int) -> PackedBatch:
        """The same sentences and `fillers` more without labels, so that sizes are those given.

        They are of like length and belong to the last run, whose gradients they leave as they are.
        The places of labelled tokens are filled up with the last token. Call before `to`.

        Raises:
            ValueError: when there is no room for them.
        """
        rest = num_tokens - self.num_tokens
        places, _, offsets, *_ = self.labelled
        missing = num_labelled - len(places)
        if rest < fillers or missing < 0:
            raise ValueError(
                f"no room for {self.num_tokens} tokens, {fillers} sentences of a token or more and "
                f"{len(places)} labelled in a pack of {num_tokens} tokens and {num_labelled}"
            )
        ends = torch.arange(1, fillers + 1) * rest // fillers
        added = positions(F.pad(ends, (1, 0)))
        run_offsets = self.run_offsets.clone()
        run_offsets[-1] = num_tokens
        batch = PackedBatch(
            token_ids=F.pad(self.token_ids, (0, rest)),
            position_ids=torch.cat([self.position_ids, added]),
            label_ids=F.pad(self.label_ids, (0, rest), value=IGNORED_LABEL),
            cu_seqlens=torch.cat([self.cu_seqlens, (self.num_tokens + ends).int()]),
            max_seqlen=max(self.max_seqlen, int(added.max()) + 1),
            causal=torch.cat([self.causal, self.causal[-1:].expand(fillers, -1)]),
            run_offsets=run_offsets,
        )
        filled = F.pad(places, (0, missing), value=num_tokens - 1)
        ends = offsets.clone()
        ends[-1] = num_labelled
        batch.__dict__["labelled"] = batch._labelled_at(filled, ends)
        return batch


def pack(
    runs: Sequence[Sequence[EncodedSentence]], causal: Sequence[Sequence[bool]]
) -> PackedBatch:
    """Lay the sentences of each run end to end, run after run.

    Args:
        runs: for every run the sentences of its batch; a run may have none.
        causal: for every run one flag per layer, True where the causal mask stays.
    """
    if len(runs) != len(causal):
        raise ValueError(f"{len(runs)} runs but {len(causal)} rows of causal flags")
    sentences = [sentence for run in runs for sentence in run]
    if not sentences:
        raise ValueError("cannot pack a batch without sentences")
    lengths = [len(sentence.token_ids) for sentence in sentences]
    cu_seqlens = _offsets(lengths)
    run_tokens = [sum(len(sentence.token_ids) for sentence in run) for run in runs]
    num_sentences = torch.tensor([len(run) for run in runs])
    return PackedBatch(
        token_ids=_end_to_end([sentence.token_ids for sentence in sentences]),
        position_ids=positions(cu_seqlens),
        label_ids=_end_to_end([sentence.label_ids for sentence in sentences]),
        cu_seqlens=cu_seqlens,
        max_seqlen=max(lengths),
        causal=_repeated(torch.tensor(causal, dtype=torch.bool), num_sentences),
        run_offsets=_offsets(run_tokens),
    )


def pack_padded(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    causal: Sequence[bool],
    labels: Tensor | None = None,
) -> tuple[PackedBatch, Tensor]:
    """Drop the padding of a rectangle of sentences, wherever it stands.

    Args:
        input_ids: int64 [sentences, length].
        attention_mask: [sentences, length], 1 for tokens and 0 for padding; None means no padding.
        causal: one flag per layer.
        labels: int64 [sentences, length] or None.

    Returns:
        The batch of one run, and bool [sentences, length], True for the tokens kept: assign to
        `rectangle[kept]` to go back.
    """
    kept = torch.ones_like(input_ids, dtype=torch.bool)
    if attention_mask is not None:
        kept = attention_mask.bool()
    lengths = kept.sum(dim=1)
    if (lengths == 0).any():
        rows = (lengths == 0).nonzero().flatten().tolist()
        raise ValueError(f"rows {rows} of the batch hold nothing but padding; leave them out")
    cu_seqlens = _offsets(lengths.tolist()).to(input_ids.device)
    num_tokens = int(cu_seqlens[-1])
    batch = PackedBatch(
        token_ids=input_ids[kept],
        position_ids=positions(cu_seqlens),
        label_ids=labels[kept] if labels is not None else _unlabelled(num_tokens, input_ids.device),
        cu_seqlens=cu_seqlens,
        max_seqlen=int(lengths.max()),
        causal=torch.tensor([list(causal)], dtype=torch.bool, device=input_ids.device).repeat(
            len(input_ids), 1
        ),
        run_offsets=torch.tensor([0, num_tokens], dtype=torch.int32),
    )
    return batch, kept


def positions(cu_seqlens: Tensor) -> Tensor:
    """Index of every token in its own sentence, int64 [T].

    >>> positions(torch.tensor([0, 3, 5])).tolist()
    [0, 1, 2, 0, 1]
    """
    starts = cu_seqlens[:-1].long()
    lengths = cu_seqlens.diff().long()
    total = torch.arange(int(cu_seqlens[-1]), device=cu_seqlens.device)
    return total - _repeated(starts, lengths)


def _repeated(rows: Tensor, counts: Tensor) -> Tensor:
    """Each row so many times. On a CPU PyTorch would wake all its threads for a handful of rows."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.repeat(rows.numpy(), counts.numpy(), axis=0))
    return rows.repeat_interleave(counts, dim=0)


def _for_kernels(offsets: Tensor, device: torch.device) -> Tensor:
    return offsets.to(device, non_blocking=True) if device.type == "cuda" else offsets


def _end_to_end(rows: Sequence[Sequence[int]]) -> Tensor:
    """int64; `torch.tensor` takes twice as long for a list, and many fused runs have long ones."""
    return torch.from_numpy(np.fromiter(chain.from_iterable(rows), dtype=np.int64))


def _offsets(lengths: Sequence[int]) -> Tensor:
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32)
    torch.cumsum(torch.tensor(lengths), dim=0, out=offsets[1:])
    return offsets


def _unlabelled(num_tokens: int, device: torch.device) -> Tensor:
    return torch.full((num_tokens,), IGNORED_LABEL, device=device)
