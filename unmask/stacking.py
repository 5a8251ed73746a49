"""What the runs of a stack have each of their own, in tensors as wide as the widest needs.

Runs of rank 2, 3 and 1 share a tensor of rank 3, [runs, rank, features]:

    run 0   a a a a     run 1   a a a a     run 2   a a a a
            a a a a             a a a a             0 0 0 0
            0 0 0 0             a a a a             0 0 0 0

What is filled up stays 0: a row of A and the column of B that would read it are both 0, so that
neither gets a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def own_part(stacked: Tensor, run: int, shape: Sequence[int]) -> Tensor:
    """The tensor of one run in a stack that is as wide as its widest run, as a view.

    >>> import torch
    >>> own_part(torch.arange(12).reshape(2, 2, 3), 1, (2, 1)).tolist()
    [[6], [9]]
    """
    return stacked[(run, *(slice(size) for size in shape))]


def replaced(each: Sequence[T], run: int, value: T) -> tuple[T, ...]:
    """What each run has, with that of one run replaced.

    >>> replaced(("a", "b", "c"), 1, "x")
    ('a', 'x', 'c')
    """
    return (*each[:run], value, *each[run + 1 :])


def without_absent(logits: Tensor, counts: Tensor, runs: Tensor) -> Tensor:
    """Minus infinity for the tags that a run does not have.

    Args:
        logits: [labelled, tags], as many tags as the widest run has, or more.
        counts: int64 [runs], tags of each run.
        runs: int64 [labelled], whose each is.
    """
    absent = torch.arange(logits.shape[1], device=logits.device) >= counts[runs, None]
    return logits.masked_fill(absent, -torch.inf)


def means_by_run(values: Tensor, counted: Tensor, runs: Tensor, num_runs: int) -> Tensor:
    """[runs], each the mean over its own values; 0 for a run without any.

    Args:
        values: [labelled]; 0 where not counted.
        counted: bool [labelled].
        runs: int64 [labelled], whose each is.
        num_runs: how many there are.
    """
    own = runs == torch.arange(num_runs, device=runs.device)[:, None]
    # Chosen, not multiplied by 0: what is not finite in one run stays there.
    sums = torch.where(own, values, values.new_zeros(())).sum(1)
    return sums / (own & counted).sum(1).clamp(min=1)


def labels_of_each(
    labels: Sequence[str] | Sequence[Sequence[str]], num_runs: int
) -> tuple[tuple[str, ...], ...]:
    """The entity labels of each run, sorted, from those of all or a sequence of them.

    >>> labels_of_each(["PER", "LOC"], 1), labels_of_each([["PER"], ["LOC"]], 2)
    ((('LOC', 'PER'),), (('PER',), ('LOC',)))

    Raises:
        ValueError: when there are more or fewer than runs, a run has none, or they are no labels.
    """
    if isinstance(labels, str):
        raise ValueError(f"labels is the text {labels!r}: give a list, such as [{labels!r}]")
    shared = [label for label in labels if isinstance(label, str)]
    own_labels = [own for own in labels if not isinstance(own, str)]
    each = own_labels or [shared] * num_runs
    if len(each) != num_runs:
        raise ValueError(f"labels for {len(each)} runs, but there are {num_runs}")
    if not all(each):
        raise ValueError("labels is empty: give at least one entity label")
    for own in each:
        if "O" in own:
            raise ValueError(
                'labels holds "O", which is a tag: give what the spans are called, such as '
                'labels=["PER", "LOC"], without "B-" and "I-"'
            )
    return tuple(tuple(sorted(set(own))) for own in each)
