"""UniversalNER's strict and partial scores (sections 5.1 and 5.4 of the paper).

A query is one (passage, type). Both scores count strings without positions, each once a query, so
20 to 50 mentions of a corpus that repeat in their sentence are not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unmask.instruct.metrics import MicroF1

PARTIAL_CREDIT = 0.5


def strict(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> dict[str, float]:
    """Micro F1 over (gold strings, predicted strings) of queries; duplicates merge."""
    metric = MicroF1()
    for gold, predicted in pairs:
        metric.update(set(gold), set(predicted))
    return metric.compute()


def partial(
    pairs: Sequence[tuple[Sequence[str], Sequence[str]]],
    words_of: Callable[[str], Sequence[str]] = str.split,
) -> dict[str, float]:
    """As `strict`, and half a hit for a prediction that shares a word with a gold string.

    Exact matches are paired first; each string is paired once, in order.
    """
    metric = MicroF1()
    for gold, predicted in pairs:
        left_gold = [item for item in dict.fromkeys(gold) if item not in set(predicted)]
        left_predicted = [item for item in dict.fromkeys(predicted) if item not in set(gold)]
        metric.update(set(gold), set(predicted))
        metric.hits += PARTIAL_CREDIT * _pair_by_words(left_gold, left_predicted, words_of)
    return metric.compute()


def _pair_by_words(
    gold: list[str], predicted: list[str], words_of: Callable[[str], Sequence[str]]
) -> int:
    by_word: dict[str, list[int]] = {}
    for index, item in enumerate(gold):
        for word in set(words_of(item)):
            by_word.setdefault(word, []).append(index)
    used: set[int] = set()
    for item in predicted:
        free = [
            candidate[0]
            for word in set(words_of(item))
            if (candidate := _without(by_word.get(word, []), used))
        ]
        if free:
            used.add(min(free))
    return len(used)


def _without(indices: list[int], used: set[int]) -> list[int]:
    """The list with used indices dropped from its front, in place."""
    while indices and indices[0] in used:
        indices.pop(0)
    return indices
