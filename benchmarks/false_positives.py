"""How often do the tests of a report err? Made-up scores where nothing, or a known gain, is true.

Everything is drawn from a fixed seed and judged by the code that makes reports. A test at a level
of .05 should err in 5 of 100 draws, and an interval of 95 % miss the truth as often.

    python benchmarks/false_positives.py
    python benchmarks/false_positives.py --draws 200
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from unmask.config import gray_codes
from unmask.recipe import PAPER
from unmask.results.counts import Counts
from unmask.results.findings import find
from unmask.results.groups import group_results
from unmask.results.output_side import pair_tests, published_test, seed_test
from unmask.results.over_sentences import bootstrap_over_sentences, randomization_p
from unmask.results.run import Run, RunResult

RESULTS = Path(__file__).parent / "results" / "false_positives.json"
LEVEL = 0.05
SPREAD = 0.01
"""Standard deviation of F1 over seeds."""
SHARED = 0.9
"""Correlation of a run's validation and test F1 within a configuration, as in the ledger of
experiments/figure1_configurations/results/tiny-lookright: r = .90 over its 32 runs."""


def main() -> None:
    """Draw, judge, print and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    measured = {
        **{
            f"choice of {2**bits} equal configurations, {seeds} seeds": _choice(
                rng, bits, seeds, arguments.draws
            )
            for bits, seeds in ((1, 5), (2, 5), (4, 3), (4, 5))
        },
        "opening near the output, 16 equal configurations, 5 seeds": _output_side(
            rng, arguments.draws
        ),
        **{
            f"{number} sentences": _sentences(rng, number, arguments.draws)
            for number in (30, 100, 300, 1000)
        },
    }
    for name, shares in measured.items():
        print(f"{name}: " + ", ".join(f"{what} {share:.3f}" for what, share in shares.items()))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "draws": arguments.draws,
        "level": LEVEL,
        "shares": measured,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _choice(rng: Any, bits: int, num_seeds: int, draws: int) -> dict[str, float]:
    """How often the chosen configuration is called different on test, where all are equal."""
    codes = gray_codes(bits)
    plain = corrected = 0
    for _ in range(draws):
        of_run = rng.normal(0, SPREAD * SHARED**0.5, (len(codes), num_seeds))
        of_split = rng.normal(0, SPREAD * (1 - SHARED) ** 0.5, (2, len(codes), num_seeds))
        validation, test = 0.8 + of_run + of_split
        (group,) = group_results(
            RunResult(
                Run("backbone", "task", code, seed, PAPER, "data"),
                {"validation": {"f1": validation[row, seed]}, "test": {"f1": test[row, seed]}},
            )
            for row, code in enumerate(codes)
            for seed in range(num_seeds)
        )
        gains = find(group).gains
        p_values = [one.comparison.p_value for one in gains if one.comparison.p_value is not None]
        plain += len(p_values) * min(p_values) <= LEVEL
        corrected += any(one.p_corrected is not None and one.p_corrected <= LEVEL for one in gains)
    return {"Holm alone": plain / draws, "corrected for the choice": corrected / draws}


def _output_side(rng: Any, draws: int) -> dict[str, float]:
    codes = gray_codes(4)
    found = {"published test": 0, "published test at .01": 0, "over seeds": 0, "pair by pair": 0}
    for _ in range(draws):
        drawn = rng.normal(0.8, SPREAD, (len(codes), 5))
        scores = {code: dict(enumerate(row)) for code, row in zip(codes, drawn, strict=True)}
        published, sound = published_test(scores), seed_test(scores)
        assert published is not None
        assert published.p_value is not None
        assert sound is not None
        assert sound.p_value is not None
        found["published test"] += published.p_value <= LEVEL
        found["published test at .01"] += published.p_value <= 0.01
        found["over seeds"] += sound.p_value <= LEVEL
        found["pair by pair"] += any(one.p_holm <= LEVEL for one in pair_tests(scores))
    return {name: count / draws for name, count in found.items()}


def _sentences(rng: Any, number: int, draws: int) -> dict[str, float]:
    """Two labelers of equal skill, and two of which one finds a sixth less."""
    large = _labeled(rng, 400_000, 0.6, 0.5)
    truth = _f1(large[0]) - _f1(large[1])
    covered = rejected = 0
    for _ in range(draws):
        _, low, high = bootstrap_over_sentences(*_labeled(rng, number, 0.6, 0.5), num_resamples=999)
        covered += low <= truth <= high
        rejected += randomization_p(*_labeled(rng, number, 0.6, 0.6), num_shuffles=999) <= LEVEL
    return {
        "95 % interval covers": covered / draws,
        "randomization of equals": rejected / draws,
    }


def _labeled(rng: Any, number: int, *skills: float) -> list[Counts]:
    """Counts of labelers on the same sentences: many without a span, some hard for both."""
    gold = rng.poisson(1.2 * rng.gamma(1.0, 1.0, number))
    ease = 1.5 * rng.beta(2.0, 1.0, number)
    sides = []
    for skill in skills:
        right = rng.binomial(gold, np.minimum(skill * ease, 1.0))
        predicted = right + rng.poisson(0.5 * (gold - right) + 0.1)
        sides.append(list(zip(*(one.tolist() for one in (right, predicted, gold)), strict=True)))
    return sides


def _f1(counts: Counts) -> float:
    right, predicted, gold = map(sum, zip(*counts, strict=True))
    return 2 * right / (predicted + gold)


if __name__ == "__main__":
    main()
