"""Conclusions as assertions: each takes a folder of results and says what it measured.

A claim reads ledgers and files only, never trains. Bounds come from config.json; what was measured
is returned beside the verdict, so that numbers in prose can be taken from one place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.results.groups import Group, group_results, is_fully_causal, is_fully_open
from unmask.results.ledger import Ledger
from unmask.results.output_side import published_test
from unmask.results.run import RunResult
from unmask.results.statistics import (
    choose_configuration,
    f1_of,
    seed_scores,
    summarize,
    validation_test_correlation,
)
from unmask.scale.figure import scores_by_task
from unmask.scale.plan import VARIANTS

DIGITS = 4


@dataclass(frozen=True)
class Verdict:
    """What a claim says, whether it holds, and the numbers it was judged by."""

    claim: str
    holds: bool
    measured: dict[str, Any]

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value}" for name, value in self.measured.items())
        return f"{'holds' if self.holds else 'FAILS'}: {self.claim} ({numbers})"


Claim = Callable[..., Verdict]


def causal_under_ceiling(out: Path, at_most_above: float = 0.0) -> Verdict:
    """All causal stays at or under what any causal labeler can reach on this corpus."""
    (group,) = _decoder_groups(out)
    corpora = json.loads((out / "corpora.json").read_text(encoding="utf-8"))
    (ceiling,) = {one["causal_ceiling"] for one in corpora.values() if one["causal_ceiling"]}
    f1 = _mean(group, _causal_code(group))
    return Verdict(
        "all causal stays at or under its causal ceiling",
        f1 <= ceiling + at_most_above,
        {"0000": _rounded(f1), "ceiling": _rounded(ceiling)},
    )


def best_gains(out: Path, at_least: float) -> Verdict:
    """The configuration chosen on validation beats all causal by so much, on validation."""
    measured: dict[str, Any] = {}
    gains = []
    for group in _decoder_groups(out):
        chosen = choose_configuration(group.results)
        best, causal = _mean(group, chosen), _mean(group, _causal_code(group))
        gains.append(best - causal)
        where = f"{group.task} " if len(_decoder_groups(out)) > 1 else ""
        measured |= {
            f"{where}chosen": chosen,
            f"{where}its F1": _rounded(best),
            f"{where}all causal": _rounded(causal),
        }
    return Verdict(
        f"the chosen configuration is at least {at_least} above all causal, on validation",
        min(gains) >= at_least,
        measured,
    )


def all_open(out: Path, above_causal: float) -> Verdict:
    """All layers open beat all causal by so much on average over the tasks."""
    gains = {}
    for group in _decoder_groups(out):
        opened = next(code for code in group.codes if is_fully_open(code))
        gains[group.task] = _rounded(_mean(group, opened) - _mean(group, _causal_code(group)))
    mean = sum(gains.values()) / len(gains)
    return Verdict(
        f"all open is at least {above_causal} above all causal, on average over tasks",
        mean >= above_causal,
        gains,
    )


def output_side(out: Path, level: float, helps: bool) -> Verdict:
    """The published test says, or does not say, that opening more near the output helps."""
    found, p_values = {}, []
    for group in _decoder_groups(out):
        test = published_test(seed_scores(group.results, "validation"))
        if test is None or test.p_value is None:
            raise ValueError(f"{out}: {group.title} has too few configurations for this test")
        found[group.task] = {"gain": _rounded(test.gain), "p": float(f"{test.p_value:.2g}")}
        p_values.append(test.p_value)
    verb = "is shown to help" if helps else "is not shown to help"
    return Verdict(
        f"opening more near the output {verb} at a level of {level} by the published test",
        all((p_value < level) == helps for p_value in p_values),
        found,
    )


def validation_foretells_test(out: Path, at_least: float) -> Verdict:
    """Pearson correlation of mean validation and test F1 over the configurations."""
    found = {}
    for group in _decoder_groups(out):
        correlation = validation_test_correlation(group.results)
        found[group.task] = math.nan if correlation is None else _rounded(correlation)
    return Verdict(
        f"validation foretells test, correlation at least {at_least}",
        all(value >= at_least for value in found.values()),
        found,
    )


def rdrr_counts(out: Path, task: str, left: int, right: int) -> Verdict:
    """The counts of relations that `unmask rdrr` printed for a task."""
    text = (out / f"rdrr-{task}.txt").read_text(encoding="utf-8")
    found = re.search(r"\(L=(\d+), R=(\d+)\)", text)
    if found is None:
        raise ValueError(f"{out / f'rdrr-{task}.txt'} holds no counts: {text!r:.200}")
    counts = {"L": int(found[1]), "R": int(found[2])}
    return Verdict(f"RDRR of {task}: L={left} R={right}", counts == {"L": left, "R": right}, counts)


def open_decoder(
    out: Path, checkpoint: int, at_least: float | None = None, at_most: float | None = None
) -> Verdict:
    """At one checkpoint of the scale study, what the decoder gains without its mask."""
    gains = {}
    for study in scores_by_task(Ledger(out / "ledger.jsonl").results()):
        gain = study.gain(checkpoint)
        if gain is not None:
            gains[study.task] = _rounded(gain.difference)
    bounds = [f"at least {at_least}"] if at_least is not None else []
    bounds += [f"at most {at_most}"] if at_most is not None else []
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    return Verdict(
        f"from checkpoint {checkpoint} the decoder gains {' and '.join(bounds)} without its mask",
        bool(gains) and all(low <= gain <= high for gain in gains.values()),
        gains,
    )


def pretraining_helps(out: Path, first: int, last: int, at_least: float) -> Verdict:
    """Every variant is better from the last checkpoint than from the first."""
    gains = {}
    for study in scores_by_task(Ledger(out / "ledger.jsonl").results()):
        for variant in study.scores:
            before, after = study.summary(variant, first), study.summary(variant, last)
            if before is not None and after is not None:
                gains[f"{study.task}, {variant}"] = _rounded(after.mean - before.mean)
    return Verdict(
        f"pre-training up to checkpoint {last} gains at least {at_least} over checkpoint {first}",
        bool(gains) and min(gains.values()) >= at_least,
        gains,
    )


def untrained_are_one(out: Path) -> Verdict:
    """Without pre-training the encoder and the decoder without its mask are one model."""
    encoder, _, opened = VARIANTS
    gains = {}
    for study in scores_by_task(Ledger(out / "ledger.jsonl").results()):
        gain = study.gain(0, encoder, opened)
        if gain is not None:
            gains[study.task] = _rounded(gain.difference)
    return Verdict(
        "from checkpoint 0 the encoder and the decoder without its mask score the same",
        bool(gains) and not any(gains.values()),
        gains,
    )


def generation_stays_behind(out: Path, at_least: float) -> Verdict:
    """The chosen configuration as a token classifier beats the instruction-tuned model."""
    results = Ledger(out / "ledger.jsonl").results()
    tuned = _f1s(one for one in results if one.run.config.startswith("instruct"))
    if not tuned:
        raise ValueError(f"{out} holds no score of an instruction-tuned model")
    (group,) = _decoder_groups(out)
    best = _mean(group, choose_configuration(group.results))
    generated = sum(tuned) / len(tuned)
    return Verdict(
        f"token classification is at least {at_least} above generating the answer, on validation",
        best - generated >= at_least,
        {"labeler": _rounded(best), "instruction-tuned": _rounded(generated)},
    )


CLAIMS: dict[str, Claim] = {
    "causal_under_ceiling": causal_under_ceiling,
    "best_gains": best_gains,
    "all_open": all_open,
    "output_side": output_side,
    "validation_foretells_test": validation_foretells_test,
    "rdrr_counts": rdrr_counts,
    "open_decoder": open_decoder,
    "pretraining_helps": pretraining_helps,
    "untrained_are_one": untrained_are_one,
    "generation_stays_behind": generation_stays_behind,
}


def judge(claim: dict[str, Any], out: Path) -> Verdict:
    """Judge one claim of a config.json.

    Raises:
        ValueError: for a claim that nobody knows, or bounds it does not take.
    """
    values = dict(claim)
    name = values.pop("claim", None)
    if name not in CLAIMS:
        raise ValueError(f"unknown claim {name!r}; known are {', '.join(CLAIMS)}")
    try:
        return CLAIMS[name](out, **values)
    except TypeError as error:
        raise ValueError(f"claim {name}: {error}") from None


def _decoder_groups(out: Path) -> list[Group]:
    groups = group_results(Ledger(out / "ledger.jsonl").results())
    found = [group for group in groups if group.results]
    if not found:
        raise ValueError(f"{out} holds no finished run of a decoder")
    return found


def _causal_code(group: Group) -> str:
    return next(code for code in group.codes if is_fully_causal(code))


def _mean(group: Group, code: str) -> float:
    return summarize(_f1s(one for one in group.results if one.run.config == code)).mean


def _f1s(results: Any) -> list[float]:
    of_results: list[RunResult] = list(results)
    return [f1 for one in of_results if (f1 := f1_of(one, "validation")) is not None]


def _rounded(value: float) -> float:
    return round(value, DIGITS)
