"""The HTML page: one file, no scripts, nothing fetched, light and dark by the reader's setting.

All text that comes from results passes through `escape`. The layout of a section is the order
of the calls in `_section`: the answer first, then what supports it, then how it was had.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from unmask.results.findings import Findings
from unmask.results.groups import is_fully_causal, is_fully_open
from unmask.results.plots import configuration_figure, curve_figure, to_svg
from unmask.results.report_answer import answer_html, overview_html
from unmask.results.table_layouts import table_to_html
from unmask.results.tables import (
    NOT_MEASURED,
    configurations_table,
    cost_in_words,
    costs_table,
    environment_table,
    labels_table,
    main_table,
    recipe_table,
    runs_table,
)
from unmask.results.wording import scoring_in_words, statistics_in_words

_STYLE = Path(__file__).parent.parent / "assets" / "report.css"
_WIDE, _NARROW = (9.2, 4.0), (4.0, 4.3)


@dataclass(frozen=True)
class Page:
    """What a page holds besides the findings of its sections.

    `ceilings` maps a task to an F1 that is drawn as a line described by `ceiling_caption`.
    """

    title: str
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    ceilings: Mapping[str, float] | None = None
    ceiling_caption: str = ""


def render_page(page: Page, sections: Sequence[Findings]) -> str:
    """The whole document."""
    body = [
        f"<header><h1>{escape(page.title)}</h1>",
        *(f'<p class="lede">{escape(note)}</p>' for note in page.notes),
        "</header>",
        _warnings("About the file of results", page.warnings),
    ]
    if not sections:
        body.append("<p>There are no results yet.</p>")
    if len(sections) > 1:
        body.append(overview_html(sections))
    body += [_section(page, findings, number) for number, findings in enumerate(sections, 1)]
    body.append(
        "<footer>Made by unmask from its ledger of runs; it can be made again at any time.</footer>"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>",
            *body,
            "</body></html>\n",
        ]
    )


def _section(page: Page, findings: Findings, number: int) -> str:
    group = findings.group
    labels = labels_table(findings.chosen) if findings.chosen else None
    cost = cost_in_words(findings.chosen) if findings.chosen else "Cost"
    environment = environment_table(group.every_result)
    parts = [
        f'<section id="section-{number}"><h2>{escape(group.title)}</h2>',
        answer_html(findings),
        _warnings("Before you believe it", findings.caveats),
        _configuration_plot(page, findings, number),
        f'<h3>Scores</h3><div class="pair"><div>{table_to_html(main_table(findings))}',
        f"{_list(statistics_in_words(findings))}</div>",
        f"{table_to_html(configurations_table(findings))}</div>",
        f"<h3>Labels</h3>{table_to_html(labels)}" if labels else "",
        _curves(findings, number),
        "<h3>How it was scored</h3>",
        f"<p>{escape(scoring_in_words(group.every_result))}</p>",
        "<h3>How it was made</h3>",
        _folded(cost, table_to_html(costs_table(findings))),
        _folded("Training recipe", table_to_html(recipe_table(findings), wordy=True)),
        _folded("Environment", table_to_html(environment, wordy=True)) if environment else "",
        _folded("Every run", table_to_html(runs_table(findings))),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _configuration_plot(page: Page, findings: Findings, number: int) -> str:
    group = findings.group
    ceiling = (page.ceilings or {}).get(group.task)
    svgs = []
    for name, size in (("wide", _WIDE), ("narrow", _NARROW)):
        figure = configuration_figure(
            group.results,
            group.baselines,
            ceiling=ceiling,
            ceiling_caption=page.ceiling_caption,
            chosen=findings.chosen.name if findings.chosen else None,
            size=size,
        )
        label = f"F1 of every configuration of {group.backbone} on {group.task}"
        svgs.append(f'<div class="{name}">{to_svg(figure, f"f{number}{name}", label)}</div>')
    caption = (
        "Mean F1 over seeds, configurations in Gray order; bands are one standard deviation, "
        "horizontal lines are baselines in the colour of their split."
    )
    return f"<figure>{''.join(svgs)}<figcaption>{caption}</figcaption></figure>"


def _curves(findings: Findings, number: int) -> str:
    """Training loss of the chosen configuration beside both ends and the baselines."""
    shown = [
        row
        for row in [*findings.rows, *findings.baselines]
        if row is findings.chosen
        or row.is_baseline
        or is_fully_causal(row.name)
        or is_fully_open(row.name)
    ]
    curves = {
        row.name: [one.curves["train_loss"] for one in row.results if one.curves.get("train_loss")]
        for row in shown
    }
    curves = {name: of_seeds for name, of_seeds in curves.items() if of_seeds}
    if not curves:
        return f"<h3>Learning curves</h3><p>Training loss: {NOT_MEASURED}.</p>"
    svgs = []
    for name, size in (("wide", (9.2, 3.1)), ("narrow", (4.0, 3.2))):
        svg = to_svg(curve_figure(curves, size=size), f"c{number}{name}", "Training loss by step")
        svgs.append(f'<div class="{name}">{svg}</div>')
    caption = "Training loss by optimizer step, mean over seeds; long runs in equal stretches."
    figure = f"<figure>{''.join(svgs)}<figcaption>{caption}</figcaption></figure>"
    return f"<h3>Learning curves</h3>{figure}"


def _warnings(title: str, warnings: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in warnings)
    return f'<aside class="warnings"><b>{title}</b><ul>{items}</ul></aside>' if items else ""


def _list(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(one)}</li>" for one in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
