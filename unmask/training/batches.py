"""Which sentences a run sees, when, and in which steps.

Everything follows from the run's seed and its counters, never from a global generator, so a run
sees the same batches alone, fused with others, and after a resume. Accumulation windows do not
cross epochs: the last window of an epoch may be short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Sentence
from unmask.recipe import Recipe


@dataclass(frozen=True)
class Schedule:
    """Counts of one run: micro-batches, windows of accumulation, optimizer steps."""

    num_sentences: int
    batch_size: int
    accumulation: int
    epochs: int
    max_steps: int | None = None

    @classmethod
    def of(cls, recipe: Recipe, num_sentences: int) -> Schedule:
        """The schedule of a recipe on a training split.

        Raises:
            ValueError: when there is nothing to train on.
        """
        if num_sentences < 1:
            raise ValueError("the training split is empty")
        return cls(
            num_sentences, recipe.batch_size, recipe.accumulation, recipe.epochs, recipe.max_steps
        )

    @property
    def microbatches_per_epoch(self) -> int:
        """Batches of one pass over the data, the last of which may be short."""
        return -(-self.num_sentences // self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one pass over the data."""
        return -(-self.microbatches_per_epoch // self.accumulation)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        steps = self.steps_per_epoch * self.epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    @property
    def num_microbatches(self) -> int:
        """Micro-batches of the whole run."""
        return self.microbatches_in(self.num_steps)

    def microbatches_in(self, num_steps: int) -> int:
        """Micro-batches that the first `num_steps` optimizer steps take."""
        epochs, steps = divmod(num_steps, self.steps_per_epoch)
        rest = min(steps * self.accumulation, self.microbatches_per_epoch)
        return epochs * self.microbatches_per_epoch + rest

    def window_size(self, microbatch: int) -> int:
        """How many micro-batches share the optimizer step of this one."""
        within = microbatch % self.microbatches_per_epoch
        begin = within - within % self.accumulation
        return min(self.accumulation, self.microbatches_per_epoch - begin)

    def ends_window(self, microbatch: int) -> bool:
        """Does an optimizer step follow this micro-batch?"""
        within = microbatch % self.microbatches_per_epoch
        return (within + 1) % self.accumulation == 0 or within + 1 == self.microbatches_per_epoch

    def indices(self, microbatch: int, seed: int) -> np.ndarray:
        """Which sentences make up a micro-batch, int64 [at most batch_size]."""
        epoch, within = divmod(microbatch, self.microbatches_per_epoch)
        order = _order(seed, epoch, self.num_sentences)
        return order[within * self.batch_size : (within + 1) * self.batch_size]


@lru_cache(maxsize=256)
def _order(seed: int, epoch: int, num_sentences: int) -> np.ndarray:
    """Of the sentences in one epoch; every micro-batch of it asks for the same one."""
    order = np.random.default_rng([seed, epoch]).permutation(num_sentences)
    order.setflags(write=False)
    return order


def encode_split(
    sentences: Sequence[Sentence], encoder: WordEncoder, tags: Sequence[str], max_subtokens: int
) -> list[EncodedSentence]:
    """Encode labelled sentences with tag ids in the order of `tags`."""
    tag_ids = {tag: index for index, tag in enumerate(tags)}
    return [encoder.encode(sentence, tag_ids, max_subtokens) for sentence in sentences]
