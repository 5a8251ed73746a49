"""Rank configurations before they are trained in full, and say how well such a ranking did.

Two rankings. By probe: train every configuration for a few steps and take the better validation
score, and among equals the lower loss. By RDRR: one number of the corpus, the share of
dependency relations that point right; configurations are preferred whose share of open layers
is nearest to it, and among equals those open nearer the output. The second is a rule of thumb made
of two published observations (Dukić and Šnajder, ACL Findings 2024), not a result: `agreement`
with a finished ledger is there to judge both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unmask.config import UnmaskConfig
from unmask.results.groups import in_gray_order
from unmask.results.run import RunResult
from unmask.results.statistics import f1_of

REGRET_AT = (1, 3, 5)


@dataclass(frozen=True)
class Agreement:
    """How a ranking did against final scores.

    `spearman` is 1 when the order is the same, 0 when it is unrelated, None for fewer than three
    configurations or equal scores. `regret` by k: the best final F1 less the best among the
    first k of the ranking, which is what training only those would cost.
    """

    spearman: float | None
    regret: dict[int, float]
    num_configurations: int


def rank_by_rdrr(codes: Sequence[str], rdrr: float, num_layers: int) -> list[str]:
    """Best first, by the share of open layers alone.

    >>> rank_by_rdrr(["0000", "1100", "0011", "1111"], rdrr=0.6, num_layers=8)
    ['0011', '1100', '1111', '0000']
    """

    def key(code: str) -> tuple[float, float]:
        flags = UnmaskConfig.parse(code, num_layers).bidirectional
        opened = [layer for layer, is_open in enumerate(flags) if is_open]
        # Rounded: shares that are equally far must not be told apart by the last binary digit.
        return (round(abs(len(opened) / num_layers - rdrr), 9), -fmean(opened or [0]))

    return sorted(in_gray_order(codes), key=key)


def rank_by_probe(results: Sequence[RunResult]) -> list[str]:
    """Best first; a configuration of which a probe diverged comes last."""
    found: dict[str, list[tuple[float, float]]] = {}
    for result in results:
        f1 = f1_of(result, "validation")
        losses = result.curves["train_loss"]
        tail = fmean(losses[-max(1, len(losses) // 4) :])
        worst = (-1.0, float("-inf"))
        found.setdefault(result.run.config, []).append(worst if f1 is None else (f1, -tail))
    means = {
        code: tuple(fmean(part) for part in zip(*of_seeds, strict=True))
        for code, of_seeds in found.items()
    }
    return sorted(in_gray_order(means), key=lambda code: means[code], reverse=True)


def agreement(ranking: Sequence[str], final: Mapping[str, float]) -> Agreement:
    """How well `ranking` (best first) foretold `final` scores, over what both have.

    Raises:
        ValueError: when they share nothing.
    """
    from scipy.stats import spearmanr

    shared = [code for code in ranking if code in final]
    if not shared:
        raise ValueError("the ledger has no final score of any configuration that was ranked")
    scores = [final[code] for code in shared]
    spearman = None
    if len(shared) > 2 and max(scores) > min(scores):
        found: Any = spearmanr([-rank for rank in range(len(shared))], scores)
        spearman = float(found.statistic)
    regret = {k: max(scores) - max(scores[:k]) for k in REGRET_AT if k < len(shared)}
    return Agreement(spearman, regret, len(shared))


def agreement_in_words(name: str, found: Agreement) -> str:
    """One line.

    >>> agreement_in_words("probe", Agreement(0.5, {1: 0.01}, 4))
    'probe: Spearman 0.50 over 4 configurations, F1 lost by training only the first 1: 0.010'
    """
    spearman = "undefined" if found.spearman is None else f"{found.spearman:.2f}"
    lost = ", ".join(f"the first {k}: {regret:.3f}" for k, regret in found.regret.items())
    text = f"{name}: Spearman {spearman} over {found.num_configurations} configurations"
    return f"{text}, F1 lost by training only {lost}" if lost else text
