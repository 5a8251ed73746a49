"""Results as one HTML page, as Markdown, or as a table for the terminal.

A report is made from results alone and can be made again at any time. Results of several
backbones, tasks or recipes make one section each. The one thing that is easy to get wrong: the
configuration is chosen on validation, so nothing here ranks by test scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from unmask.results.findings import Findings, find
from unmask.results.groups import group_results
from unmask.results.run import RunResult
from unmask.results.table_layouts import escape_markdown, table_to_markdown
from unmask.results.tables import configurations_table, main_table
from unmask.results.wording import (
    answer,
    gain_in_words,
    gains_footnote,
    scoring_in_words,
    statistics_in_words,
)

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def render_report(
    results: Iterable[RunResult],
    title: str = "Which layers should look right",
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    ceiling: float | Mapping[str, float] | None = None,
    ceiling_caption: str = "best F1 a causal labeler can reach",
) -> str:
    """One self-contained HTML page: no scripts, no fonts or files from anywhere else.

    Args:
        results: any results, of any number of tasks and backbones.
        title: the heading of the page.
        notes: sentences shown under the heading (what the reader of the corpus changed).
        warnings: what was odd about the ledger (`Ledger.warnings()`).
        ceiling: an F1 to draw as a line, for all tasks or by task.
        ceiling_caption: what that line is.
    """
    from unmask.results.report_html import Page, render_page

    sections = [find(group) for group in group_results(results)]
    if isinstance(ceiling, int | float):
        ceiling = {findings.group.task: float(ceiling) for findings in sections}
    return render_page(Page(title, notes, warnings, ceiling, ceiling_caption), sections)


def render_markdown(
    results: Iterable[RunResult], title: str = "Which layers should look right"
) -> str:
    """The answer and the tables of scores, for a README or a pull request."""
    sections = [find(group) for group in group_results(results)]
    parts = [f"# {escape_markdown(title)}", *(_markdown_section(findings) for findings in sections)]
    if not sections:
        parts.append("There are no results yet.")
    return "\n\n".join(parts) + "\n"


def render_table(results: Iterable[RunResult]) -> RichTable:
    """Every configuration of every task and backbone, for printing with rich."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title="micro F1, strict IOB2, mean ± sd over seeds")
    is_first = True
    for group in group_results(results):
        findings = find(group)
        table = configurations_table(findings)
        if is_first:
            for number, column in enumerate(("task, backbone", *table.columns)):
                shown.add_column(column, justify="left" if number < 2 else "right")
        shown.add_section()
        for number, row in enumerate(table.rows):
            is_chosen = number in table.marked
            name = group.title if number == 0 else ""
            cells = (name, row[0] + (" (chosen)" if is_chosen else ""), *row[1:])
            shown.add_row(*map(Text, cells), style="bold" if is_chosen else None)
        is_first = False
    return shown


def _markdown_section(findings: Findings) -> str:
    parts = [
        f"## {escape_markdown(findings.group.title)}",
        escape_markdown(answer(findings)),
    ]
    if findings.gains:
        gains = "\n".join(f"- {escape_markdown(gain_in_words(gain))}" for gain in findings.gains)
        parts += [gains, gains_footnote(findings.gains)]
    if findings.caveats:
        parts.append("\n".join(f"- **Note:** {escape_markdown(one)}" for one in findings.caveats))
    parts += [
        table_to_markdown(main_table(findings)),
        table_to_markdown(configurations_table(findings)),
    ]
    if sentences := statistics_in_words(findings):
        parts.append("\n".join(f"- {one}" for one in sentences))
    parts.append(scoring_in_words(findings.group.every_result))
    return "\n\n".join(parts)
