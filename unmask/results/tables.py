"""The tables of the reports, as plain cells: findings in, text out, layout elsewhere.

HTML, Markdown and the terminal all lay out the same `Table`. The one thing that is easy to get
wrong: a value nobody measured reads "not measured" and is never shown as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from statistics import fmean
from typing import Any

from unmask.recipe import PAPER, Recipe
from unmask.results.about import About
from unmask.results.findings import Findings, Row
from unmask.results.run import RunResult
from unmask.results.statistics import Summary, f1_of, summarize

NOT_MEASURED = "not measured"

_COST_COLUMNS = {
    "train_seconds": "training, s",
    "tokens_per_second": "tokens/s",
    "peak_memory_bytes": "peak memory, GiB",
}
_COST_PHRASES = {
    "train_seconds": "s of training",
    "tokens_per_second": "tokens/s",
    "peak_memory_bytes": "GiB of memory at the peak",
}


@dataclass(frozen=True)
class Table:
    """Rows of text under columns. The first column names the row.

    `marked` are indices of rows to stand out, `ruled` of rows with a line above them.
    """

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    marked: frozenset[int] = field(default=frozenset())
    ruled: frozenset[int] = field(default=frozenset())


def main_table(findings: Findings) -> Table:
    """All causal, all open, every configuration above all open, and the baselines."""
    return _score_table(
        "All causal, all open, what beats all open on validation, and the baselines",
        findings.main_rows,
        findings.chosen,
    )


def configurations_table(findings: Findings, max_rows: int | None = None) -> Table:
    """Every configuration in Gray order, then the baselines.

    Of more than `max_rows` configurations, as a search leaves them, the best on validation, best
    first.
    """
    rows = _shown(findings, max_rows)
    part = _part_of(rows, findings)
    caption = f"Every configuration{part}" if part else "Every configuration in Gray order"
    return _score_table(caption, rows, findings.chosen)


def _shown(findings: Findings, max_rows: int | None) -> list[Row]:
    rows = list(findings.rows)
    if max_rows is not None and len(rows) > max_rows:
        rows.sort(key=lambda row: -(row.validation.mean if row.validation else -math.inf))
    return [*rows[:max_rows], *findings.baselines]


def _part_of(rows: Sequence[Row], findings: Findings) -> str:
    num_shown, num_all = len(rows) - len(findings.baselines), len(findings.rows)
    if num_shown == num_all:
        return ""
    return f": the best {num_shown} of {num_all} on validation; the CSV files have them all"


def labels_table(row: Row) -> Table | None:
    """Scores per label of one configuration, mean over seeds; None without any."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for result in row.results:
        for split, scores in result.scores.items():
            for label, of_label in scores.get("per_label", {}).items():
                found.setdefault(label, {}).setdefault(split, []).append(of_label)
    if not found:
        return None
    splits = [one for one in ("validation", "test") if any(one in of for of in found.values())]
    rows: list[tuple[str, ...]] = []
    for label, of_splits in sorted(found.items()):
        cells = [label]
        for split in splits:
            many = of_splits.get(split, [])
            cells.append(format_mean(many, "support", digits=0))
            cells += [format_mean(many, key) for key in ("precision", "recall", "f1")]
        rows.append(tuple(cells))
    columns = ("label", *(f"{one} {part}" for one in splits for part in ("spans", "P", "R", "F1")))
    caption = f"Scores per label of {row.name}, mean over seeds"
    if len(splits) == 1:
        caption += f"; {'test' if splits[0] == 'validation' else 'validation'}: {NOT_MEASURED}"
    return Table(caption, columns, rows)


def labels_compared_table(findings: Findings) -> Table | None:
    """F1 per label: the chosen configuration beside both ends and the baselines, on one split."""
    if findings.chosen is None:
        return None
    split = "test" if findings.chosen.test else "validation"
    columns = [findings.chosen, *findings.others]
    by_row = [_label_scores(row, split) for row in columns]
    labels = sorted({label for scores in by_row for label in scores})
    if not labels:
        return None
    rows = [
        (
            label,
            format_mean(by_row[0].get(label, []), "support", digits=0),
            *(format_mean(scores.get(label, []), "f1") for scores in by_row),
        )
        for label in labels
    ]
    caption = f"F1 per label on {split}, mean over seeds"
    return Table(caption, ("label", "gold spans", *(row.name for row in columns)), rows)


def _label_scores(row: Row, split: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for result in row.results:
        if f1_of(result, split) is not None:
            for label, scores in result.scores[split].get("per_label", {}).items():
                found.setdefault(label, []).append(scores)
    return found


def settings_table(about: About) -> Table | None:
    """What the sweep was asked for when it was last called; None when that was not kept."""
    if not about.settings:
        return None
    caption = "What the sweep was asked for, when it was last called"
    return Table(caption, ("setting", "value"), list(about.settings.items()))


def costs_table(findings: Findings, max_rows: int | None = None) -> Table:
    """Mean time, speed and memory of a run, and whatever else was timed."""
    rows = _shown(findings, max_rows)
    extra = {name for row in rows for one in row.results for name in one.timings}
    names = [*_COST_COLUMNS, *sorted(extra - set(_COST_COLUMNS))]
    return Table(
        "Cost of one run, mean over seeds" + _part_of(rows, findings),
        ("configuration", *(_COST_COLUMNS.get(name, name) for name in names)),
        [(row.name, *(_format_cost(row.results, name) for name in names)) for row in rows],
        ruled=_first_baseline(rows),
    )


def cost_in_words(row: Row) -> str:
    """The cost of one configuration in one line."""
    parts = [
        f"{cost} {phrase}"
        for name, phrase in _COST_PHRASES.items()
        if (cost := _format_cost(row.results, name)) != NOT_MEASURED
    ]
    return f"Cost of one run of {row.name}: {', '.join(parts) or NOT_MEASURED}"


def recipe_table(findings: Findings) -> Table:
    """Every constant of training, for each recipe in use, beside the paper's."""
    names: dict[Recipe, list[str]] = {}
    for result in findings.group.results[:1]:
        names[result.run.recipe] = [result.run.backbone]
    for row in findings.baselines:
        for result in row.results[:1]:
            names.setdefault(result.run.recipe, []).append(row.name)
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for number, constant in enumerate(fields(Recipe)):
        of_paper = getattr(PAPER, constant.name)
        values = [getattr(recipe, constant.name) for recipe in names]
        rows.append((constant.name, *map(plain, values), plain(of_paper)))
        if any(value != of_paper for value in values):
            marked.add(number)
    caption = "Every constant of training; marked where one differs from the paper's"
    columns = ("constant", *(", ".join(of_recipe) for of_recipe in names.values()), "paper")
    return Table(caption, columns, rows, frozenset(marked))


def environment_table(results: Iterable[RunResult]) -> Table | None:
    """Versions, hardware and commit; None when nothing was recorded."""
    found: dict[str, dict[str, int]] = {}
    for result in results:
        for name, value in result.environment.items():
            counts = found.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    if not found:
        return None
    rows = [(name, _values_with_counts(counts)) for name, counts in sorted(found.items())]
    return Table("Where the runs were made", ("what", "value"), rows)


def runs_table(findings: Findings, max_rows: int | None = None) -> Table:
    """Every single run with its id, of as many configurations as `configurations_table` has."""
    shown = _shown(findings, max_rows)
    rows = [
        (
            result.run.id,
            row.name,
            str(result.run.seed),
            format_f1(f1_of(result, "validation")),
            format_f1(f1_of(result, "test")),
            result.status,
        )
        for row in shown
        for result in row.results
    ]
    columns = ("run", "configuration", "seed", "validation F1", "test F1", "status")
    return Table("Every run" + _part_of(shown, findings), columns, rows)


def format_f1(value: float | None) -> str:
    """Three decimals, as the paper prints them."""
    return NOT_MEASURED if value is None else f"{value:.3f}"


def format_summary(summary: Summary | None) -> str:
    """Mean and standard deviation: "0.956 ± 0.002", or the mean alone for one seed."""
    if summary is None:
        return NOT_MEASURED
    return f"{summary.mean:.3f}" + ("" if summary.sd is None else f" ± {summary.sd:.3f}")


def format_mean(scores: Sequence[dict[str, Any]], key: str, digits: int = 3) -> str:
    """The mean of one entry over dicts of scores, with all decimals that are asked for."""
    values = [one[key] for one in scores if one.get(key) is not None]
    return f"{fmean(values):.{digits}f}" if values else NOT_MEASURED


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "run"), counted(0, "run")
    ('1 run', '0 runs')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def format_p(value: float | None) -> str:
    """A p-value that does not break over lines: "p = 0.012", "p < 0.001", or why there is none."""
    if value is None:
        return "no p-value: too few seeds or no spread"
    sign, digits = ("<", "0.001") if value < 0.001 else ("=", f"{value:.3f}")
    return f"p\u00a0{sign}\u00a0{digits}"


def _score_table(caption: str, rows: Sequence[Row], chosen: Row | None) -> Table:
    cells = [
        (
            row.name,
            format_summary(row.validation),
            format_summary(row.test),
            _format_runs(row),
        )
        for row in rows
    ]
    return Table(
        caption,
        ("configuration", "validation F1", "test F1", "seeds"),
        cells,
        marked=frozenset(number for number, row in enumerate(rows) if row is chosen),
        ruled=_first_baseline(rows),
    )


def _first_baseline(rows: Sequence[Row]) -> frozenset[int]:
    first = next((number for number, row in enumerate(rows) if row.is_baseline), 0)
    return frozenset({first} if first else ())


def _format_runs(row: Row) -> str:
    text = str(len(row.results))
    if row.num_diverged:
        text += f", {row.num_diverged} diverged"
    if row.validation and row.test and row.test.num_seeds != row.validation.num_seeds:
        text += f", {row.test.num_seeds} on test"
    return text


def _format_cost(results: Sequence[RunResult], name: str) -> str:
    values = [one.timings.get(name) for one in results]
    measured = [value for value in values if value is not None and math.isfinite(value)]
    if not measured:
        return NOT_MEASURED
    mean = summarize(measured).mean
    if name == "peak_memory_bytes":
        return f"{mean / 2**30:.1f}"
    return f"{mean:,.0f}".replace(",", "\u202f") if mean >= 100 else f"{mean:.3g}"


def plain(value: Any) -> str:
    """A setting as a person writes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _values_with_counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return "; ".join(f"{value} ({counted(count, 'run')})" for value, count in counts.items())
