"""`unmask suggest`: which configurations to train first, from RDRR and from a short probe.

The probe is a sweep of its own in a folder below --out, through the ordinary training with few
steps, so it can be killed and goes on, and its runs never mix with those of the full recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from rich.console import Console

from unmask.data.sentence import Corpus
from unmask.results.foresight import (
    Agreement,
    agreement,
    agreement_in_words,
    rank_by_probe,
    rank_by_rdrr,
)
from unmask.results.groups import is_unmasking_code
from unmask.results.ledger import Ledger
from unmask.results.run import RunResult
from unmask.results.statistics import seed_scores
from unmask.sweep.execute import open_ledger
from unmask.sweep.plan import SweepSettings
from unmask.sweep.workers import Workers, do_sweeps

PROBE_STEPS = 20
RDRR_SENTENCES = 1000


@dataclass(frozen=True)
class Suggestion:
    """Two rankings, best first; the one by RDRR is None where no parser is installed."""

    by_probe: list[str]
    by_rdrr: list[str] | None
    rdrr: float | None
    agreements: dict[str, Agreement]
    """By ranking, where --out has final scores of the same data."""
    num_steps: int

    def to_text(self) -> str:
        """What a person reads."""
        lines = [f"by probe of {self.num_steps} steps: {' '.join(self.by_probe)}"]
        if self.by_rdrr is None:
            lines.append("by RDRR: not measured, no parser or no relation")
        else:
            lines.append(f"by RDRR of {self.rdrr:.3f} (rule of thumb): {' '.join(self.by_rdrr)}")
        for name, found in self.agreements.items():
            lines.append(f"checked on the ledger, {agreement_in_words(name, found)}")
        if not self.agreements:
            lines.append("not checked: there are no final scores of this data and recipe yet")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "num_steps": self.num_steps,
            "by_probe": self.by_probe,
            "by_rdrr": self.by_rdrr,
            "rdrr": self.rdrr,
            "agreement": {
                name: {
                    "spearman": one.spearman,
                    "regret": {str(k): value for k, value in one.regret.items()},
                    "num_configurations": one.num_configurations,
                }
                for name, one in self.agreements.items()
            },
        }


def suggest(
    settings: SweepSettings,
    corpus: Corpus,
    console: Console,
    num_steps: int = PROBE_STEPS,
    workers: Workers | None = None,
) -> Suggestion:
    """Probe every configuration, measure RDRR, rank; check on final scores where there are some.

    Args:
        settings: of the full sweep; its first seed is probed.
        corpus: what `load_corpus` gave.
        console: for notes and progress.
        num_steps: optimizer steps of a probe.
        workers: who trains the probes; default: this process.

    Raises:
        ValueError: for a number of steps that cannot be.
    """
    recipe = replace(settings.recipe, max_steps=num_steps)
    probe = replace(
        settings,
        recipe=recipe,
        seeds=settings.seeds[:1],
        baselines=(),
        out=settings.out / "probe",
        test="none",
        halving=False,
        search=None,
    )
    do_sweeps([(probe, corpus)], workers or Workers(), console)
    probed = _of_sweep(open_ledger(probe), probe, corpus)
    rankings = {"probe": rank_by_probe(probed)}
    rdrr = _rdrr(corpus, console)
    if rdrr is not None:
        num_layers = int(probed[0].environment["num_layers"])
        rankings["RDRR"] = rank_by_rdrr(settings.configs, rdrr, num_layers)
    final = _final_scores(settings, corpus, backbone=probed[0].run.backbone)
    checked = {name: agreement(one, final) for name, one in rankings.items() if final}
    return Suggestion(rankings["probe"], rankings.get("RDRR"), rdrr, checked, num_steps)


def _of_sweep(ledger: Ledger, settings: SweepSettings, corpus: Corpus) -> list[RunResult]:
    fingerprint = corpus.fingerprint()
    return [
        result
        for result in ledger.results()
        if result.run.recipe == settings.recipe
        and result.run.data_fingerprint == fingerprint
        and result.run.seed in settings.seeds
        and result.run.config in settings.configs
    ]


def _final_scores(settings: SweepSettings, corpus: Corpus, backbone: str) -> dict[str, float]:
    """Mean validation F1 by configuration under the full recipe."""
    results: Sequence[RunResult] = [
        result
        for result in _of_sweep(open_ledger(settings), settings, corpus)
        if result.run.backbone == backbone and is_unmasking_code(result.run.config)
    ]
    return {code: fmean(of.values()) for code, of in seed_scores(results, "validation").items()}


def _rdrr(corpus: Corpus, console: Console) -> float | None:
    from unmask.analysis.rdrr import load_parser, rdrr

    try:
        parser = load_parser()
    except (ImportError, OSError, ValueError) as error:
        console.print(f"note: RDRR is not measured: {error}")
        return None
    return rdrr(corpus.train[:RDRR_SENTENCES], parser).ratio
