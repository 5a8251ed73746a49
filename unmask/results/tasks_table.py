"""Table 2 of the paper: backbones and baselines down, tasks across.

Made where one page has several tasks. As in the paper, a configuration has a number only in tasks
where it surpasses all open on validation (or was chosen); elsewhere it has a dash. A test split
has no column where nothing was scored on it. The one thing that is easy to get wrong: a decoder may
have several sections of one task, by recipe or by data. Each has rows of its own, or one would
silently stand for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from unmask.results.findings import Findings, Row
from unmask.results.groups import in_gray_order, is_fully_causal, is_fully_open
from unmask.results.tables import NOT_MEASURED, Table, format_f1

ABSENT = "-"
"""Where a row does not apply, which is not the same as not measured."""

_SPLITS = ("validation", "test")


def tasks_table(sections: Sequence[Findings]) -> Table | None:
    """Mean F1 of what the main tables have, by task; None for a single task."""
    tasks = list(dict.fromkeys(one.group.task for one in sections))
    if len(tasks) < 2:
        return None
    by_decoder: dict[str, dict[str, Findings]] = {}
    baselines: dict[str, dict[str, Row]] = {}
    baseline_names: dict[tuple[str, ...], str] = {}
    sections_of = Counter((_decoder(one), one.group.task) for one in sections if one.rows)
    data_of = Counter(task for task, _ in {_data(one) for one in sections})
    for findings in sections:
        task, decoder = findings.group.task, _decoder(findings)
        if findings.rows:
            apart = _apart(findings) if sections_of[decoder, task] > 1 else ""
            by_decoder.setdefault(decoder + apart, {})[task] = findings
        for row in findings.baselines:
            apart = _apart(findings) if data_of[task] > 1 else ""
            # The sections of several recipes on the same data share their baselines.
            name = baseline_names.setdefault((row.name, *_data(findings)), row.name + apart)
            baselines.setdefault(name, {})[task] = row
    rows: list[tuple[str, ...]] = []
    ruled: set[int] = set()
    for decoder, of_tasks in by_decoder.items():
        ruled.add(len(rows))
        shown = {task: {row.name: row for row in one.main_rows} for task, one in of_tasks.items()}
        codes = {row.name for of in shown.values() for row in of.values() if not row.is_baseline}
        for code in _ends_first(codes):
            found = [shown.get(task, {}).get(code) for task in tasks]
            rows.append((f"{decoder} {code}", *_cells(found)))
    ruled.add(len(rows))
    rows += [(name, *_cells([of.get(task) for task in tasks])) for name, of in baselines.items()]
    columns = ("", *(f"{task} {split}" for task in tasks for split in _SPLITS))
    caption = (
        "Mean F1 by task: all causal, all open, what surpasses all open on validation, and the "
        f"baselines; {ABSENT} where a configuration does not"
    )
    columns, *rows = _without_empty_tests([columns, *rows])
    return Table(caption, columns, rows, ruled=frozenset(ruled - {0, len(rows)}))


def _decoder(findings: Findings) -> str:
    recipe = findings.group.recipe
    if recipe is None or recipe.preset == "paper":
        return findings.group.backbone
    return f"{findings.group.backbone} ({recipe.preset})"


def _data(findings: Findings) -> tuple[str, str]:
    return findings.group.task, findings.group.data_fingerprint


def _apart(findings: Findings) -> str:
    """What the title of a section has after task and backbone: recipe or data."""
    group = findings.group
    return group.title.removeprefix(f"{group.task}, {group.backbone}")


def _without_empty_tests(table: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    columns, *rows = table
    told = [
        index
        for index, column in enumerate(columns)
        if not (column.endswith(" test") and {row[index] for row in rows} <= {ABSENT, NOT_MEASURED})
    ]
    return [tuple(row[index] for index in told) for row in table]


def _ends_first(codes: set[str]) -> list[str]:
    """All causal, all open, then the others in Gray order."""
    ordered = in_gray_order(codes)
    ends = [code for code in ordered if is_fully_causal(code) or is_fully_open(code)]
    return [*ends, *(code for code in ordered if code not in ends)]


def _cells(rows: Sequence[Row | None]) -> list[str]:
    cells: list[str] = []
    for row in rows:
        if row is None:
            cells += [ABSENT] * len(_SPLITS)
            continue
        for summary in (row.validation, row.test):
            cells.append(format_f1(summary.mean if summary else None))
    return cells
