"""Results as one HTML page, as Markdown, or as a table for the terminal.

A report is made from results alone and can be made again at any time. Results of several
backbones, tasks or recipes make one section each. The one thing that is easy to get wrong: the
configuration is chosen on validation, so nothing here ranks by test scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from unmask.results.about import About
from unmask.results.findings import Findings, find
from unmask.results.groups import Group, group_results
from unmask.results.kept import Kept
from unmask.results.kept_mistakes import with_mistakes
from unmask.results.mistake_tables import kinds_table
from unmask.results.run import RunResult
from unmask.results.statistics_tables import layers_table
from unmask.results.table_layouts import escape_markdown, table_to_markdown
from unmask.results.tables import configurations_table, labels_compared_table, main_table
from unmask.results.tasks_table import tasks_table
from unmask.results.wording import (
    answer,
    gain_in_words,
    gains_footnote,
    layers_in_words,
    scoring_in_words,
    statistics_in_words,
)

_MAX_ROWS = 64

if TYPE_CHECKING:
    from rich.table import Table as RichTable


def find_all(results: Iterable[RunResult], kept: Kept | None = None) -> list[Findings]:
    """Findings of every task, backbone and recipe that there are results of."""
    return find_in(group_results(results), kept)


def find_in(groups: Iterable[Group], kept: Kept | None = None) -> list[Findings]:
    """Findings of groups, with what was kept of their predictions."""
    return [with_mistakes(find(group, kept and kept.counts), kept) for group in groups]


def render_report(
    sections: Sequence[Findings],
    title: str = "Which layers should look right",
    warnings: Sequence[str] = (),
    about: Mapping[tuple[str, str], About] | None = None,
    with_sentences: bool = True,
) -> str:
    """One self-contained HTML page: no scripts, no fonts or files from anywhere else.

    Args:
        sections: what `find_all` gave.
        title: the heading of the page.
        warnings: what was odd about the ledger (`Ledger.warnings()`).
        about: what is known of a corpus, by (task, data fingerprint).
        with_sentences: show the worst sentences, which are text of the corpus.
    """
    from unmask.results.report_html import Page, render_page

    return render_page(Page(title, warnings, about or {}, with_sentences), sections)


def render_markdown(
    sections: Sequence[Findings],
    title: str = "Which layers should look right",
) -> str:
    """The answer and the tables of scores, for a README or a pull request."""
    by_task = tasks_table(sections)
    parts = [
        f"# {escape_markdown(title)}",
        *([table_to_markdown(by_task)] if by_task else []),
        *(_markdown_section(findings) for findings in sections),
    ]
    if not sections:
        parts.append("There are no results yet.")
    return "\n\n".join(parts) + "\n"


def render_table(sections: Sequence[Findings]) -> RichTable:
    """Every configuration of every task and backbone, for printing with rich."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(title="micro F1, strict IOB2, mean ± sd over seeds")
    is_first = True
    for findings in sections:
        table = configurations_table(findings)
        if is_first:
            for number, column in enumerate(("task, backbone", *table.columns)):
                # Folded, never cut: names of backbones often differ at their end only.
                justify = "left" if number < 2 else "right"
                shown.add_column(column, justify=justify, overflow="fold")
        shown.add_section()
        for number, row in enumerate(table.rows):
            is_chosen = number in table.marked
            name = findings.group.title if number == 0 else ""
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
        table_to_markdown(configurations_table(findings, _MAX_ROWS)),
    ]
    if layers := layers_table(findings):
        parts += [table_to_markdown(layers), escape_markdown(layers_in_words(findings))]
    if labels := labels_compared_table(findings):
        parts.append(table_to_markdown(labels))
    if findings.mistakes:
        parts.append(table_to_markdown(kinds_table(findings.mistakes)))
    if sentences := statistics_in_words(findings):
        parts.append("\n".join(f"- {one}" for one in sentences))
    parts.append(scoring_in_words(findings.group.every_result))
    return "\n\n".join(parts)
