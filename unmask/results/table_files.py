"""Tables as files: CSV with every digit for further computing, LaTeX for a paper.

The one thing that is easy to get wrong: what was not measured is an empty cell in CSV and a dash
in LaTeX, never a 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from unmask.results.findings import Findings
from unmask.results.run import RunResult
from unmask.results.statistics import Summary
from unmask.results.tables import NOT_MEASURED, Table, main_table
from unmask.results.tasks_table import ABSENT, tasks_table

SPLITS = ("validation", "test")
_MEASURES = ("f1", "precision", "recall")

_LATEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def runs_csv(results: Iterable[RunResult]) -> str:
    """One line per run: what it is, its scores and costs, unrounded."""
    results = list(results)
    timed = sorted({name for result in results for name in result.timings})
    scored = [f"{split}_{measure}" for split in SPLITS for measure in _MEASURES]
    head = ["run", "task", "data", "backbone", "recipe", "configuration", "seed", "status"]
    lines: list[list[Any]] = [[*head, *scored, *timed]]
    for result in results:
        run = result.run
        scores = [
            result.scores.get(split, {}).get(measure) for split in SPLITS for measure in _MEASURES
        ]
        what = [run.id, run.task, run.data_fingerprint, run.backbone, run.recipe.preset]
        costs = [result.timings.get(name) for name in timed]
        lines.append([*what, run.config, run.seed, result.status, *scores, *costs])
    return _csv(lines)


def configurations_csv(sections: Sequence[Findings]) -> str:
    """One line per configuration and baseline: means and standard deviations over seeds."""
    summarized = [f"{split}_{part}" for split in SPLITS for part in ("mean", "sd", "seeds")]
    head = ["task", "backbone", "section", "configuration", "is_baseline", "chosen"]
    lines: list[list[Any]] = [[*head, *summarized]]
    for findings in sections:
        group = findings.group
        for row in [*findings.rows, *findings.baselines]:
            what = [group.task, group.backbone, group.title, row.name]
            flags = [int(row.is_baseline), int(row is findings.chosen)]
            lines.append([*what, *flags, *_parts(row.validation), *_parts(row.test)])
    return _csv(lines)


def latex(sections: Sequence[Findings]) -> str:
    r"""The main table of every section, for a document that loads booktabs.

    The chosen configuration is bold; `\label` is "tab:unmask-1" and so on. With several tasks
    there is also the paper's table 2, tasks across, "tab:unmask-tasks".
    """
    tables = []
    if (by_task := tasks_table(sections)) is not None:
        tables.append(_latex_table(by_task, f"{by_task.caption}; micro F1, strict IOB2.", "tasks"))
    for number, findings in enumerate(sections, 1):
        table = main_table(findings)
        caption = (
            f"{findings.group.title}. {table.caption}; micro F1, strict IOB2, mean ± standard "
            "deviation over seeds; bold was chosen on validation."
        )
        tables.append(_latex_table(table, caption, str(number)))
    head = "% Needs \\usepackage{booktabs}. Made by unmask from its ledger of runs.\n"
    return head + "\n".join(tables)


def _latex_table(table: Table, caption: str, label: str) -> str:
    rows = []
    for index, row in enumerate(table.rows):
        cells = [_latex_cell(cell) for cell in row]
        if index in table.marked:
            cells = [f"\\textbf{{{cell}}}" for cell in cells]
        rule = "\\midrule\n" if index in table.ruled else ""
        rows.append(f"{rule}{' & '.join(cells)} \\\\")
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{_latex_text(caption)}}}",
            f"\\label{{tab:unmask-{label}}}",
            "\\begin{tabular}{l" + "r" * (len(table.columns) - 1) + "}",
            "\\toprule",
            f"{' & '.join(map(_latex_text, table.columns))} \\\\",
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
    )


def _latex_cell(text: str) -> str:
    return "--" if text in (NOT_MEASURED, ABSENT) else _latex_text(text)


def _latex_text(text: str) -> str:
    return "".join(_LATEX_SIGNS.get(sign, sign) for sign in text)


def _parts(summary: Summary | None) -> list[Any]:
    return [None] * 3 if summary is None else [summary.mean, summary.sd, summary.num_seeds]


def _csv(lines: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(lines)
    return stream.getvalue()
