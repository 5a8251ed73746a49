"""The HTML page: one file, no scripts, nothing fetched, light and dark by the reader's setting.

All text that comes from results passes through `escape`. The layout of a section is the order
of the calls in `_section`: the answer first, then what supports it, then how it was had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from unmask.results.about import About
from unmask.results.effect_plots import layer_figure
from unmask.results.findings import Findings
from unmask.results.plots import configuration_figure, curve_figure, score_figure
from unmask.results.report_answer import answer_html, overview_html
from unmask.results.report_mistakes import mistakes_html
from unmask.results.report_parts import (
    MAX_DRAWN_SECTIONS,
    Figures,
    folded,
    listed,
    warned,
    with_contents,
)
from unmask.results.run import RunResult
from unmask.results.statistics_tables import LAYERS_CAPTION, layers_table, pairs_table
from unmask.results.table_layouts import table_to_html
from unmask.results.tables import (
    NOT_MEASURED,
    configurations_table,
    cost_in_words,
    costs_table,
    environment_table,
    labels_compared_table,
    labels_table,
    main_table,
    recipe_table,
    runs_table,
    settings_table,
)
from unmask.results.tasks_table import tasks_table
from unmask.results.wording import layers_in_words, scoring_in_words, statistics_in_words

_STYLE = Path(__file__).parent.parent / "assets" / "report.css"
_MAX_ROWS = 64
"""Longer tables make a page slow to open; the CSV files have everything."""

_NO_FIGURES = (
    "Figures are left out of a page of {count} sections; unmask report FOLDER --only TEXT makes a "
    "page with them of the sections whose title has TEXT in it."
)


@dataclass(frozen=True)
class Page:
    """What a page holds besides the findings of its sections.

    `about` maps (task, data fingerprint) to what the sweep knows of the corpus;
    `with_sentences` shows the worst sentences, which are text of the corpus.
    """

    title: str
    warnings: Sequence[str] = ()
    about: Mapping[tuple[str, str], About] = field(default_factory=dict)
    with_sentences: bool = True

    def about_group(self, findings: Findings) -> About:
        """What is known of the corpus of a section."""
        key = (findings.group.task, findings.group.data_fingerprint)
        return self.about.get(key, About())


def render_page(page: Page, sections: Sequence[Findings]) -> str:
    """The whole document."""
    body = [
        f"<header><h1>{escape(page.title)}</h1>",
        "</header>",
        warned("About the file of results", page.warnings),
    ]
    if not sections:
        body.append("<p>There are no results yet.</p>")
    if len(sections) > 1:
        by_task = tasks_table(sections)
        body += [overview_html(sections), table_to_html(by_task) if by_task else ""]
    figures = Figures(are_drawn=len(sections) <= MAX_DRAWN_SECTIONS)
    if not figures.are_drawn:
        body.append(f'<p class="note">{escape(_NO_FIGURES.format(count=len(sections)))}</p>')
    body += [_section(page, one, number, figures) for number, one in enumerate(sections, 1)]
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


def _section(page: Page, findings: Findings, number: int, figures: Figures) -> str:
    about = page.about_group(findings)
    results = findings.group.every_result
    parts = {
        "Scores": _scores(findings),
        "Layer by layer": _layers(findings, number, figures),
        "Labels": _labels(findings),
        "Mistakes": mistakes_html(findings.mistakes, number, figures, page.with_sentences),
        "Learning curves": _curves(findings, number, figures),
        "How it was scored": f"<p>{escape(scoring_in_words(results))}</p>",
        "How it was made": _how_it_was_made(about, findings),
    }
    return "\n".join(
        [
            f'<section id="section-{number}"><h2>{escape(findings.group.title)}</h2>',
            answer_html(findings),
            warned("Before you believe it", findings.caveats),
            _configuration_plot(about, findings, number, figures),
            with_contents(number, parts),
            "</section>",
        ]
    )


def _configuration_plot(about: About, findings: Findings, number: int, figures: Figures) -> str:
    group = findings.group
    return figures.html(
        f"f{number}",
        f"F1 of every configuration of {group.backbone} on {group.task}",
        lambda size: configuration_figure(
            group.results,
            group.baselines,
            ceiling=about.ceiling,
            ceiling_caption=about.ceiling_caption,
            chosen=findings.chosen.name if findings.chosen else None,
            size=size,
        ),
        ((9.2, 4.0), (4.0, 4.3)),
        "Mean F1 over seeds, configurations in Gray order; bands are one standard deviation, "
        "horizontal lines are baselines in the colour of their split.",
    )


def _scores(findings: Findings) -> str:
    pairs = pairs_table(findings)
    return (
        f'<div class="pair"><div>{table_to_html(main_table(findings))}'
        f"{listed(statistics_in_words(findings))}</div>"
        f"{table_to_html(configurations_table(findings, _MAX_ROWS))}</div>"
        f"{folded('Pair by pair', table_to_html(pairs)) if pairs else ''}"
    )


def _layers(findings: Findings, number: int, figures: Figures) -> str:
    """What each group of layers does."""
    table = layers_table(findings)
    if table is None:
        return ""
    figure = figures.html(
        f"l{number}",
        LAYERS_CAPTION,
        lambda size: layer_figure(findings.layer_effects, size),
        ((9.2, 3.3), (4.0, 3.6)),
        f"{LAYERS_CAPTION}. {layers_in_words(findings)}",
    )
    return figure + folded("The same in numbers", table_to_html(table))


def _labels(findings: Findings) -> str:
    compared = labels_compared_table(findings)
    table = labels_table(findings.chosen) if findings.chosen else None
    if findings.chosen is None or compared is None or table is None:
        return ""
    more = folded(f"Precision and recall of {findings.chosen.name}", table_to_html(table))
    return table_to_html(compared) + more


def _curves(findings: Findings, number: int, figures: Figures) -> str:
    """How the chosen configuration learned, beside both ends and the baselines."""
    shown = [row for row in (findings.chosen, *findings.others) if row is not None]
    losses = {
        row.name: [one.curves["train_loss"] for one in row.results if one.curves.get("train_loss")]
        for row in shown
    }
    if not any(losses.values()):
        return f"<p>Training loss: {NOT_MEASURED}.</p>"
    return figures.html(
        f"c{number}",
        "Training loss by step",
        lambda size: curve_figure(losses, size=size),
        ((9.2, 3.1), (4.0, 3.2)),
        "Training loss by optimizer step, mean over seeds; long runs in equal stretches.",
    ) + _score_curves({row.name: row.results for row in shown}, number, figures)


def _score_curves(shown: Mapping[str, Sequence[RunResult]], number: int, figures: Figures) -> str:
    """Validation F1 after every epoch, where it was taken."""
    scores = {
        name: [
            list(zip(one.curves["validation_step"], one.curves["validation_f1"], strict=True))
            for one in results
            if one.curves.get("validation_step")
        ]
        for name, results in shown.items()
    }
    if not any(scores.values()):
        return (
            "<p>Validation F1 was taken at the end of each run only; a sweep with --epoch-scores "
            "or --patience takes it after every epoch, and its curve is shown here.</p>"
        )
    return figures.html(
        f"v{number}",
        "Validation F1 by step",
        lambda size: score_figure(scores, size),
        ((9.2, 3.1), (4.0, 3.2)),
        "Validation F1 after every epoch, mean over the seeds that were still under way.",
    )


def _how_it_was_made(about: About, findings: Findings) -> str:
    results = findings.group.every_result
    environment, settings = environment_table(results), settings_table(about)
    runs = runs_table(findings, _MAX_ROWS)
    cost = cost_in_words(findings.chosen) if findings.chosen else "Cost"
    parts = [
        listed(about.notes),
        folded(cost, table_to_html(costs_table(findings, _MAX_ROWS))),
        folded("Training recipe", table_to_html(recipe_table(findings), wordy=True)),
        folded("Settings", table_to_html(settings, wordy=True)) if settings else "",
        folded("Environment", table_to_html(environment, wordy=True)) if environment else "",
        folded("Every run", table_to_html(runs)),
    ]
    return "\n".join(part for part in parts if part)
