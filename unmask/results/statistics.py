"""Means, choices and tests over runs that differ in configuration and seed only.

Scores of many runs travel as {configuration: {seed: F1}}. The one thing that is easy to get
wrong is looking at test scores too early: the configuration is chosen by `best_configuration`,
which is handed validation scores and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unmask.results.groups import by_configuration, in_gray_order, is_unmasking_code, num_open
from unmask.results.run import RunResult

SeedScores = Mapping[str, Mapping[int, float]]
"""F1 by configuration and seed."""


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over seeds; `sd` is None for a single seed."""

    mean: float
    sd: float | None
    num_seeds: int


@dataclass(frozen=True)
class Comparison:
    """First minus second, paired over the seeds both have.

    `interval` and `p_value` (two-sided) come from the paired t test. Both are None where it
    says nothing: with fewer than two seeds, or when all differences are equal.
    """

    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    num_seeds: int


def summarize(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and how many.

    Raises:
        ValueError: when there are no values.

    >>> summarize([0.25, 0.5, 0.75])
    Summary(mean=0.5, sd=0.25, num_seeds=3)
    """
    values = list(values)
    if not values:
        raise ValueError("there is no mean of no values; leave configurations without scores out")
    mean = fmean(values)
    if len(values) == 1:
        return Summary(mean, None, 1)
    # statistics.stdev reckons in fractions, which takes seconds over the runs of a search.
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Summary(mean, math.sqrt(squares / (len(values) - 1)), len(values))


def f1_of(result: RunResult, split: str) -> float | None:
    """The micro F1 of one result, None when that split was not scored or the run diverged."""
    f1 = result.scores.get(split, {}).get("f1")
    if f1 is None or result.status == "diverged" or not math.isfinite(f1):
        return None
    return f1


def seed_scores(results: Sequence[RunResult], split: str) -> dict[str, dict[int, float]]:
    """F1 by configuration (Gray order) and seed; what was not scored is left out.

    Raises:
        ValueError: when results differ in more than configuration and seed.
    """
    found: dict[str, dict[int, float]] = {}
    for config, of_config in by_configuration(results).items():
        for result in of_config:
            f1 = f1_of(result, split)
            if f1 is not None:
                found.setdefault(config, {})[result.run.seed] = f1
    return found


def choose_configuration(results: Iterable[RunResult]) -> str:
    """The configuration with the best mean validation F1; test scores are never looked at.

    Baselines are ignored. Configurations of which a seed diverged stand back for those that
    always finished.

    Raises:
        ValueError: when no decoder run has a validation score, or when results differ in more
            than configuration and seed.
    """
    decoders = [one for one in results if is_unmasking_code(one.run.config)]
    validation = seed_scores(decoders, "validation")
    diverged = {one.run.config for one in decoders if one.status == "diverged"}
    steady = {code: scores for code, scores in validation.items() if code not in diverged}
    return best_configuration(steady or validation)


def best_configuration(validation: SeedScores) -> str:
    """The configuration with the highest mean over the seeds that all configurations have.

    Where no seed is common to all (a sweep under way), each mean is over the seeds there are.
    On a tie the one that opens least wins, then the first in Gray order.

    Raises:
        ValueError: when there is nothing to choose from.
    """
    scored = {code: scores for code, scores in validation.items() if scores}
    if not scored:
        raise ValueError(
            "no configuration has a validation score to choose by; train and score some first"
        )
    common = set.intersection(*(set(scores) for scores in scored.values()))
    means = {
        code: fmean(scores[seed] for seed in sorted(common or scores))
        for code, scores in scored.items()
    }
    # max() keeps the first of equals, so the order settles what the key leaves open.
    return max(in_gray_order(means), key=lambda code: (means[code], -num_open(code)))


def validation_test_correlation(results: Sequence[RunResult]) -> float | None:
    """Pearson correlation of mean validation and mean test F1 over configurations.

    Means are over the seeds of a configuration that have both. None with fewer than three
    configurations that have both, or when one side is constant.
    """
    from scipy.stats import pearsonr

    validation, test = (seed_scores(results, split) for split in ("validation", "test"))
    both = {
        code: seeds
        for code, of_seeds in validation.items()
        if (seeds := sorted(set(of_seeds) & set(test.get(code, ()))))
    }
    sides = [
        [fmean(scores[code][seed] for seed in seeds) for code, seeds in both.items()]
        for scores in (validation, test)
    ]
    if len(both) < 3 or any(_is_constant(side) for side in sides):
        return None
    found: Any = pearsonr(*sides)
    return float(found.statistic)


def compare(
    first: Mapping[int, float], second: Mapping[int, float], level: float = 0.95
) -> Comparison | None:
    """Paired comparison of two configurations, given F1 by seed; None without a shared seed."""
    from scipy.stats import ttest_rel

    seeds = sorted(set(first) & set(second))
    if not seeds:
        return None
    left, right = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    differences = [one - other for one, other in zip(left, right, strict=True)]
    if len(seeds) < 2 or _is_constant(differences):
        return Comparison(fmean(differences), None, None, len(seeds))
    test: Any = ttest_rel(left, right)
    low, high = test.confidence_interval(level)
    return Comparison(fmean(differences), (float(low), float(high)), float(test.pvalue), len(seeds))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the given order.

    >>> holm([0.01, 0.04, 0.03, 0.005])
    [0.03, 0.06, 0.06, 0.02]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def holm_where_known(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of those p-values that there are; None stays None."""
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


def _is_constant(values: Sequence[float]) -> bool:
    """Equal up to rounding, so that a t statistic would be noise divided by noise."""
    return max(values) - min(values) < 1e-12
