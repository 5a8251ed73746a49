"""Micro-batches of pre-training: which chunks, what is hidden of them, on the device in time.

All follows from the seed and the number of the micro-batch. While a GPU computes, a thread reads
and masks what comes next and lays it where the GPU fetches it by itself, so that nobody waits.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unmask.scale.language_models import hidden_places, mask_tokens
from unmask.scale.settings import Pretraining
from unmask.training.batches import Schedule

AHEAD = 4
"""Micro-batches that are made before they are due."""

PARTS = 64
"""Places to foretell are filled up to whole multiples of this part of a micro-batch's tokens."""


@dataclass
class Reader:
    """Micro-batches of chunks in an order that follows from the seed alone."""

    chunks: np.ndarray
    """[chunks, length]."""
    schedule: Schedule
    seed: int
    _epoch: int = -1

    def batch(self, microbatch: int) -> np.ndarray:
        """int64 [at most batch_size, length]."""
        epoch, within = divmod(microbatch, self.schedule.microbatches_per_epoch)
        if epoch != self._epoch:  # an order of millions of chunks is not drawn for every batch
            generator = np.random.default_rng([self.seed, epoch])
            self._order, self._epoch = generator.permutation(len(self.chunks)), epoch
        size = self.schedule.batch_size
        # Sorted within the batch: neighbours on disk are read together.
        places = np.sort(self._order[within * size : (within + 1) * size])
        return self.chunks[places].astype(np.int64)


class Batches(AbstractContextManager["Batches"]):
    """What each micro-batch's loss takes besides the model; use it as a context."""

    def __init__(
        self,
        kind: str,
        settings: Pretraining,
        reader: Reader,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        steady: bool = False,
    ) -> None:
        """Begin nowhere; the first `take` says where.

        Args:
            kind: "encoder" or "decoder".
            settings: the seed and how much is hidden.
            reader: of the chunks.
            tokenizer: of the chunks.
            device: where batches go.
            steady: keep to few sizes.
        """
        self.kind = kind
        self.settings = settings
        self.reader = reader
        self.tokenizer = tokenizer
        self.device = device
        self.steady = steady
        self._thread = ThreadPoolExecutor(1)
        self._made: dict[int, Future[tuple[Tensor, ...]]] = {}

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(self, microbatch: int) -> tuple[Tensor, ...]:
        """Tokens and, for an encoder, places and targets, on the device.

        See `next_token_loss` and `masked_token_loss`.
        """
        ahead = AHEAD if self.device.type == "cuda" else 0  # a CPU has no time to spare
        last = min(microbatch + ahead, self.reader.schedule.num_microbatches - 1)
        for due in range(microbatch, last + 1):
            if due not in self._made:
                self._made[due] = self._thread.submit(self._make, due)
        made = self._made.pop(microbatch).result()
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in made)

    def _make(self, microbatch: int) -> tuple[Tensor, ...]:
        parts: tuple[np.ndarray, ...] = (self.reader.batch(microbatch),)
        if self.kind == "encoder":
            generator = np.random.default_rng([self.settings.seed, microbatch, 1])
            share = self.settings.mlm_probability
            seen, targets = mask_tokens(parts[0], self.tokenizer, share, generator)
            multiple = -(-targets.size // PARTS) if self.steady else 1
            parts = (seen, *hidden_places(targets, multiple))
        tensors = [torch.from_numpy(part) for part in parts]
        # From pinned memory a copy does not wait for what the device has still to do.
        pinned = self.device.type == "cuda"
        return tuple(tensor.pin_memory() if pinned else tensor for tensor in tensors)
