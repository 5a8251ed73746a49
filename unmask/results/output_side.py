"""Is opening more layers near the output better? The published test and a sound one.

Dukić and Šnajder (ACL Findings 2024, section 5.1) compare each configuration that opens
something with those that keep its bits up to its last 1 and open at least one more group to the
right of it, nearer the output. With four groups these are 17 pairs. The one thing that is easy
to get wrong: the pairs share configurations, so they are not 17 independent observations, as the
published test takes them to be; the sound test takes the seeds as the observations.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unmask.results.groups import in_gray_order, is_bit_code
from unmask.results.statistics import SeedScores, holm


@dataclass(frozen=True)
class OutputSideTest:
    """Mean gain of opening more near the output, and the one-sided p-value that it is above 0.

    `num_observations` is what the t test counts: pairs in the published test, seeds in the
    sound one. `p_value` is None where the test says nothing. `p_two_sample` is that of the test
    that the paper's text names, beside the paired one that its released code runs; the sound test
    has none.
    """

    gain: float
    p_value: float | None
    num_pairs: int
    num_observations: int
    p_two_sample: float | None = None


@dataclass(frozen=True)
class PairTest:
    """One pair over seeds; `p_holm` is corrected for all pairs tested."""

    shorter: str
    longer: str
    gain: float
    p_value: float
    p_holm: float


def output_side_pairs(codes: Iterable[str]) -> list[tuple[str, str]]:
    """(shorter, longer) among `codes`: longer keeps shorter up to its last 1 and opens more.

    >>> output_side_pairs(["000", "010", "011", "111"])
    [('010', '011')]
    """
    codes = in_gray_order(code for code in set(codes) if is_bit_code(code))
    by_start: dict[tuple[int, str], list[str]] = {}  # not all with all: a search leaves thousands
    for code in codes:
        for end in range(1, len(code)):
            by_start.setdefault((len(code), code[:end]), []).append(code)
    return [
        (shorter, longer)
        for shorter in codes
        for longer in by_start.get((len(shorter), _up_to_last_one(shorter)), ())
        if longer != shorter
    ]


def published_test(scores: SeedScores) -> OutputSideTest | None:
    """The published test: paired, one-sided, over seed means of the pairs; None without pairs.

    The paper calls it a two-sample test; its released code pairs the samples. Both are given.
    The two means of a pair are over the seeds that both sides have, so that a sweep under way does
    not compare seeds in place of configurations.
    """
    pairs = [pair for pair in output_side_pairs(scores) if _shared_seeds(scores, *pair)]
    if not pairs:
        return None
    shorter, longer = (
        [fmean(scores[pair[side]][seed] for seed in _shared_seeds(scores, *pair)) for pair in pairs]
        for side in (0, 1)
    )
    return OutputSideTest(
        gain=fmean(longer) - fmean(shorter),
        p_value=_p_less(shorter, longer),
        num_pairs=len(pairs),
        num_observations=len(pairs),
        p_two_sample=_p_two_sample(shorter, longer),
    )


def seed_test(scores: SeedScores) -> OutputSideTest | None:
    """The sound test: the mean over all pairs, once per seed, and a one-sided t over seeds.

    Only seeds that every configuration of a pair has are used; None without any.
    """
    pairs = output_side_pairs(scores)
    if not pairs:
        return None
    used = {code for pair in pairs for code in pair}
    seeds = sorted(set.intersection(*(set(scores[code]) for code in used)))
    if not seeds:
        return None
    shorter = [fmean(scores[one][seed] for one, _ in pairs) for seed in seeds]
    longer = [fmean(scores[other][seed] for _, other in pairs) for seed in seeds]
    return OutputSideTest(
        gain=fmean(longer) - fmean(shorter),
        p_value=_p_less(shorter, longer),
        num_pairs=len(pairs),
        num_observations=len(seeds),
    )


def pair_tests(scores: SeedScores) -> list[PairTest]:
    """Each pair by itself, paired over seeds, one-sided, Holm-corrected over all of them.

    Pairs with fewer than two shared seeds, or without any variation, are left out.
    """
    found: list[tuple[str, str, float, float]] = []
    for one, other in output_side_pairs(scores):
        seeds = _shared_seeds(scores, one, other)
        shorter, longer = ([scores[code][seed] for seed in seeds] for code in (one, other))
        p_value = _p_less(shorter, longer)
        if p_value is not None:
            found.append((one, other, fmean(longer) - fmean(shorter), p_value))
    corrected = holm([p_value for *_, p_value in found])
    return [PairTest(*row, p_holm) for row, p_holm in zip(found, corrected, strict=True)]


def _shared_seeds(scores: SeedScores, one: str, other: str) -> list[int]:
    return sorted(set(scores[one]) & set(scores[other]))


def _up_to_last_one(code: str) -> str:
    return code[: code.rfind("1") + 1]


def _p_less(lower: list[float], higher: list[float]) -> float | None:
    from scipy.stats import ttest_rel

    differences = [one - other for one, other in zip(lower, higher, strict=True)]
    if len(differences) < 2 or max(differences) - min(differences) < 1e-12:
        return None
    test: Any = ttest_rel(lower, higher, alternative="less")
    return float(test.pvalue)


def _p_two_sample(lower: list[float], higher: list[float]) -> float | None:
    """One-sided, with the variances taken to be equal, as is the default of the test."""
    from scipy.stats import ttest_ind

    if len(lower) < 2 or max(max(one) - min(one) for one in (lower, higher)) < 1e-12:
        return None
    test: Any = ttest_ind(lower, higher, alternative="less")
    return float(test.pvalue)
