"""Would another sample of text say the same? Tests that draw sentences anew.

They say nothing about seeds, whose part is `unmask.results.statistics.compare`. Both tests work on
counts per sentence. The many sentences of a split have few different counts, so what is drawn is
how often each kind of sentence occurs: the same distribution as drawing sentence by sentence, and
thousands of draws in a moment. The one thing that is easy to get wrong: both sides must be drawn
together, because a hard sentence is hard for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unmask.results.counts import Counts, pooled
from unmask.results.run import Run, RunResult
from unmask.results.statistics import f1_of

CountsOf = Callable[[Run, str], Counts | None]
"""Counts of a run on a split, where they were kept."""

NUM_RESAMPLES = 9999
NUM_SHUFFLES = 9999


@dataclass(frozen=True)
class OverSentences:
    """First minus second on the same sentences, pooled over `num_runs` runs a side.

    `interval` is a 95 % bootstrap over sentences; `p_value` (two-sided) is of approximate
    randomization: how often swapping sides at random, sentence by sentence, differs as much.
    """

    difference: float
    interval: tuple[float, float]
    p_value: float
    num_sentences: int
    num_runs: int
    p_holm: float | None = None


def compare_over_sentences(
    first: Sequence[RunResult], second: Sequence[RunResult], split: str, counts_of: CountsOf
) -> OverSentences | None:
    """Two configurations, pooled over the seeds of which both kept counts; None without any.

    Raises:
        ValueError: when the counts of a run are of other sentences than its score.
    """
    sides = [_counts_by_seed(results, split, counts_of) for results in (first, second)]
    seeds = sorted(set(sides[0]) & set(sides[1]))
    if not seeds:
        return None
    left, right = (pooled([side[seed] for seed in seeds]) for side in sides)
    return compare_counts(left, right, len(seeds)) if len(left) > 1 else None


def compare_counts(first: Counts, second: Counts, num_runs: int = 1) -> OverSentences:
    """Two sides on the same sentences.

    Raises:
        ValueError: when the sides have different lengths or fewer than two sentences.
    """
    difference, low, high = bootstrap_over_sentences(first, second)
    p_value = randomization_p(first, second)
    return OverSentences(difference, (low, high), p_value, len(first), num_runs)


def bootstrap_over_sentences(
    first: Counts, second: Counts, level: float = 0.95, num_resamples: int = NUM_RESAMPLES
) -> tuple[float, float, float]:
    """F1 of first minus F1 of second on the same sentences: (difference, low, high).

    Sentences are drawn anew in pairs, with the seed fixed (percentile interval).

    Raises:
        ValueError: when the sides have different lengths or fewer than two sentences.
    """
    import numpy as np

    kinds, times = _kinds_of_sentences(first, second)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(first), times / len(first), size=num_resamples)  # [draws, kinds]
    differences = _f1_difference(drawn @ kinds)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(_f1_difference(times @ kinds)), float(low), float(high)


def randomization_p(first: Counts, second: Counts, num_shuffles: int = NUM_SHUFFLES) -> float:
    """Two-sided p-value that the sides differ in F1 by more than the luck of who had which.

    Raises:
        ValueError: when the sides have different lengths or fewer than two sentences.
    """
    import numpy as np

    kinds, times = _kinds_of_sentences(first, second)
    swapped = np.concatenate([kinds[:, 3:], kinds[:, :3]], axis=1)
    rng = np.random.default_rng(0)
    num_swapped = rng.binomial(times, 0.5, size=(num_shuffles, len(times)))
    shuffled = np.abs(_f1_difference((times - num_swapped) @ kinds + num_swapped @ swapped))
    observed = abs(float(_f1_difference(times @ kinds)))
    as_extreme = int(np.sum(shuffled >= observed - 1e-12))
    return (as_extreme + 1) / (num_shuffles + 1)


def _kinds_of_sentences(first: Counts, second: Counts) -> tuple[Any, Any]:
    """Different (counts of first, counts of second) [kinds, 6], and how often each [kinds]."""
    import numpy as np

    if len(first) != len(second) or len(first) < 2:
        raise ValueError(
            f"cannot compare {len(first)} sentences with {len(second)}; give counts for the same "
            "two or more sentences on both sides"
        )
    found = Counter((*one, *other) for one, other in zip(first, second, strict=True))
    return np.array(list(found), dtype=np.int64), np.array(list(found.values()), dtype=np.int64)


def _f1_difference(sums: Any) -> Any:
    """Of sums [..., 6]; no span on either side makes 0, as in scoring."""
    import numpy as np

    def f1(of_side: Any) -> Any:
        return 2 * of_side[..., 0] / np.maximum(of_side[..., 1] + of_side[..., 2], 1)

    return f1(sums[..., :3]) - f1(sums[..., 3:])


def _counts_by_seed(
    results: Sequence[RunResult], split: str, counts_of: CountsOf
) -> Mapping[int, Counts]:
    found: dict[int, Counts] = {}
    for result in results:
        # A run without a score (diverged, or not tested) must not come in by its counts.
        counts = None if f1_of(result, split) is None else counts_of(result.run, split)
        if counts is not None:
            _check_length(result, split, len(counts))
            found[result.run.seed] = counts
    return found


def _check_length(result: RunResult, split: str, length: int) -> None:
    scored = result.scores[split].get("num_sentences", length)
    if scored != length:
        raise ValueError(
            f"run {result.run.id} ({result.run.name}) was scored on {scored} sentences of {split}, "
            f"but its counts are of {length}; delete counts.{split}.json in its folder to compare "
            "without it"
        )
