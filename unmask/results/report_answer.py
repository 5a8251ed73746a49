"""The top of the HTML page: the answer with its gains, and the overview over several sections.

All text that comes from results passes through `escape`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from unmask.results.findings import Findings, Gain
from unmask.results.groups import is_bit_code, is_fully_causal, is_fully_open
from unmask.results.table_layouts import cell_to_html
from unmask.results.tables import NOT_MEASURED, format_summary
from unmask.results.wording import answer, gain_details, gains_footnote, name_against

_MANY_BITS = 8
"""Longer codes are set smaller."""


def overview_html(sections: Sequence[Findings]) -> str:
    """One line per section, for pages that hold several."""
    rows = []
    for number, findings in enumerate(sections, 1):
        chosen = findings.chosen
        gains = {gain.against: gain.comparison.difference for gain in findings.gains}
        cells = [
            chosen.name if chosen else "none yet",
            format_summary(chosen.validation if chosen else None),
            format_summary(chosen.test if chosen else None),
            _gain_cell(gains, is_fully_causal, chosen and chosen.name),
            _gain_cell(gains, is_fully_open, chosen and chosen.name),
            _gain_over_baselines(findings, gains),
        ]
        link = f'<a href="#section-{number}">{escape(findings.group.title)}</a>'
        rows.append(f'<tr><th scope="row">{link}</th>{"".join(map(cell_to_html, cells))}</tr>')
    columns = (
        "results of",
        "chosen",
        "validation F1",
        "test F1",
        "over all causal",
        "over all open",
        "over the best baseline",
    )
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    return (
        '<div class="overview scroll"><table><caption>The choice for each task and backbone'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def answer_html(findings: Findings) -> str:
    """The choice, its gains and how sure they are."""
    chosen = findings.chosen
    parts = ['<div class="answer">']
    if chosen is not None:
        size = " long" if len(chosen.name) > _MANY_BITS else ""
        parts.append(
            f'<div class="choice"><span class="big{size}">{escape(chosen.name)}</span>'
            f"{_strip(chosen.name)}</div>"
        )
    parts.append(f"<p>{escape(answer(findings))}</p>")
    if findings.gains:
        parts.append(_gains(findings.gains))
        parts.append(f'<p class="note">{escape(gains_footnote(findings.gains))}</p>')
    return "".join([*parts, "</div>"])


def _strip(code: str) -> str:
    """The groups as blocks from input to output, open ones filled."""
    if not is_bit_code(code):
        return ""
    blocks = "".join('<i class="open"></i>' if bit == "1" else "<i></i>" for bit in code)
    many = " many" if len(code) > _MANY_BITS else ""
    return (
        '<span class="strip" aria-hidden="true">input '
        f'<span class="blocks{many}">{blocks}</span> output, filled looks right</span>'
    )


def _gains(gains: Sequence[Gain]) -> str:
    """Each gain as a number, words, and a dot with its interval on one scale for all."""
    reach = [0.0]
    for gain in gains:
        reach += [gain.comparison.difference, *(gain.comparison.interval or ())]
    low, width = min(reach), max(max(reach) - min(reach), 1e-9)

    def place(value: float) -> str:
        return f"{2 + 96 * (value - low) / width:.2f}%"

    items = []
    for gain in gains:
        found = gain.comparison
        bar = f'<span class="zero" style="left:{place(0.0)}"></span>'
        if found.interval is not None:
            start, end = found.interval
            share = f"{96 * (end - start) / width:.2f}%"
            bar += f'<span class="range" style="left:{place(start)};width:{share}"></span>'
        bar += f'<span class="dot" style="left:{place(found.difference)}"></span>'
        items.append(
            f'<li><span class="number">{found.difference:+.3f}</span>'
            f'<span class="what">F1 over <b>{escape(name_against(gain))}</b> on {gain.split}'
            f'<span class="detail">{escape(gain_details(gain))}</span></span>'
            f'<span class="track" aria-hidden="true">{bar}</span></li>'
        )
    return f'<ul class="gains">{"".join(items)}</ul>'


def _gain_cell(
    gains: Mapping[str, float], is_end: Callable[[str], bool], chosen: str | None
) -> str:
    if chosen is not None and is_end(chosen):
        return "chosen itself"
    found = [gain for name, gain in gains.items() if is_end(name)]
    return f"{found[0]:+.3f}" if found else NOT_MEASURED


def _gain_over_baselines(findings: Findings, gains: Mapping[str, float]) -> str:
    """The smallest gain, which is that over the best of them."""
    found = [gains[row.name] for row in findings.baselines if row.name in gains]
    return f"{min(found):+.3f}" if found else NOT_MEASURED
