"""Which labels an instruction of SeqGPT asks for: some that are right, some that are not.

Appendix A.3 of the paper: every text makes K instructions, each with up to N_pos of its own
labels and up to N_neg others, both numbers drawn anew. A quota per data set and label keeps
frequent labels from filling the training data.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from unmask.instruct.examples import IEExample
from unmask.instruct.labels import LabelSet, labels_in


@dataclass(frozen=True)
class Draw:
    """How labels are drawn; the defaults are Table 6."""

    repeats: int = 3
    max_positive: int = 11
    max_negative: int = 21


@dataclass
class Quota:
    """How often each label of each data set has been asked where it was right.

    Once a label is full it is left out of further instructions, so that what is rare and stands
    beside it is still taught.
    """

    limit: int
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def open(self, dataset: str, labels: Sequence[str]) -> list[str]:
        """The labels that may still be asked; all of them without a limit (0)."""
        if not self.limit:
            return list(labels)
        return [label for label in labels if self.counts[dataset, label] < self.limit]

    def count(self, dataset: str, labels: Sequence[str]) -> None:
        """Count one instruction with these right labels."""
        self.counts.update((dataset, label) for label in labels)


def draw_labels(
    pool: Sequence[str],
    gold: Mapping[str, object],
    allowed: Sequence[str],
    draw: Draw,
    generator: random.Random,
) -> tuple[list[str], list[str]]:
    """Right labels and all labels of one instruction, the latter shuffled.

    Right ones are drawn from `allowed`, wrong ones uniformly from `pool` without any of `gold`.
    """
    num_positive = generator.randint(1, draw.max_positive)
    num_negative = generator.randint(1, draw.max_negative)
    positive = generator.sample(allowed, min(num_positive, len(allowed)))
    absent = [label for label in pool if label not in gold]
    asked = positive + generator.sample(absent, min(num_negative, len(absent)))
    generator.shuffle(asked)
    return positive, asked


def in_batches(labels: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Labels in as few batches of at most `size` as possible, the first ones larger by one.

    >>> [len(batch) for batch in in_batches("abcdefgh", 6)]
    [4, 4]
    """
    if size < 1 or len(labels) <= size:
        return [tuple(labels)]
    number = -(-len(labels) // size)
    short, larger = divmod(len(labels), number)
    starts = [index * short + min(index, larger) for index in range(number + 1)]
    return [tuple(labels[a:b]) for a, b in pairwise(starts)]


def label_pools(
    examples: Sequence[IEExample], labels: LabelSet, shared_by: str
) -> dict[str, LabelSet]:
    """The labels that may be asked of each data set.

    With shared_by="task" everything that occurs anywhere, as for pretraining data; with "dataset"
    what occurs in the data set, or `labels` when there is but one.
    """
    datasets = dict.fromkeys(example.dataset for example in examples)
    if shared_by == "task":
        union = labels_in([*labels.names, *_types(examples)])
        return dict.fromkeys(datasets, replace(union, natural=labels.natural, roles=labels.roles))
    if len(datasets) == 1:
        return dict.fromkeys(datasets, labels)
    return {
        name: replace(
            labels_in(_types(one for one in examples if one.dataset == name)),
            natural=labels.natural,
            roles=labels.roles,
        )
        for name in datasets
    }


def _types(examples: Iterable[IEExample]) -> list[str]:
    """Raw labels of everything annotated, whatever its kind."""
    items = (item for example in examples for item in example.items)
    names = (getattr(item, "type", "") or getattr(item, "name", "") for item in items)
    return [name for name in names if name]
