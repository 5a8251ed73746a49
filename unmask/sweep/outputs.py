"""The pages and files that a sweep leaves behind; all of them can be made again from the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unmask.data.sentence import Corpus
from unmask.results.ledger import Ledger


def write_outputs(ledger: Ledger, folder: Path, corpus: Corpus | None = None) -> list[Path]:
    """Write report.html, report.md and figure.png; returns what was written.

    Args:
        ledger: where the results are.
        folder: where to write.
        corpus: what was read, for its notes, and for the ceiling of the generated corpus.
    """
    from unmask.results.report import render_markdown, render_report

    contents = ledger.read()
    title = "Which layers should look right"
    html = folder / "report.html"
    html.write_text(
        render_report(
            contents.results,
            title,
            corpus.notes if corpus else (),
            contents.warnings,
            causal_ceiling_of(corpus),
        ),
        encoding="utf-8",
    )
    markdown = folder / "report.md"
    markdown.write_text(render_markdown(contents.results, title), encoding="utf-8")
    return [html, markdown, *_figures(contents.results, folder, corpus)]


def causal_ceiling_of(corpus: Corpus | None) -> float | None:
    """The best F1 that any causal labeler can reach, where that is known."""
    if corpus is None or corpus.name != "lookright":
        return None
    from unmask.data.lookright import causal_ceiling

    return causal_ceiling(corpus.validation)


def _figures(results: Sequence, folder: Path, corpus: Corpus | None) -> list[Path]:
    from unmask.results.groups import group_results
    from unmask.results.plots import configuration_figure, save_png

    written = []
    groups = [group for group in group_results(results) if group.results]
    for index, group in enumerate(groups):
        name = "figure.png" if len(groups) == 1 else f"figure-{index + 1}.png"
        ceiling = causal_ceiling_of(corpus)
        save_png(configuration_figure(group.results, group.baselines, ceiling), folder / name)
        written.append(folder / name)
    return written
