"""The part of the HTML page that shows mistakes: tables, a figure, and the worst sentences.

All text that comes from results or corpora passes through `escape`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape

from unmask.data.sentence import Span
from unmask.results.effect_plots import recall_figure, recall_height
from unmask.results.kept_mistakes import MistakesFound
from unmask.results.mistake_tables import confusions_table, kinds_table, recall_table
from unmask.results.report_parts import Figures, folded
from unmask.results.table_layouts import table_to_html

NUM_WORST = 50
_MAX_PREDICTIONS = 3
"""Different predictions of one sentence that are shown."""

_KINDS_IN_WORDS = (
    "boundary: right label, overlapping, wrong ends; label: right ends, wrong label; missed: no "
    "such prediction; invented: no such gold span."
)


def mistakes_html(
    found: MistakesFound | None, number: int, figures: Figures, with_sentences: bool = True
) -> str:
    """Everything about mistakes in section `number`; with or without text of the corpus."""
    if found is None:
        return "<p>No predictions were kept with these results, so there is nothing to analyse.</p>"
    confusions = confusions_table(found)
    recall = {name: one.recall for name, one in found.breakdowns.items()}
    figure = ""
    if any(recall[found.chosen].values()):
        height = recall_height(recall)
        figure = figures.html(
            f"m{number}",
            "Recall by what the gold span is like",
            lambda size: recall_figure(recall, size),
            ((9.2, height), (4.0, height)),
            f"Which gold spans are found on {found.split}, all seeds together. Seen in training "
            "means that the same words are a span of the same label there.",
        )
    parts = [
        f'<div class="pair uneven"><div>{table_to_html(kinds_table(found))}',
        f'<p class="note">{escape(_KINDS_IN_WORDS)}</p></div>',
        f"{table_to_html(confusions) if confusions else ''}</div>",
        figure,
        folded("The same in numbers", table_to_html(recall_table(found))),
        _worst_html(found) if with_sentences else "",
    ]
    return "\n".join(part for part in parts if part)


def _worst_html(found: MistakesFound) -> str:
    breakdown = found.breakdowns[found.chosen]
    worst = breakdown.worst(NUM_WORST)
    if not worst:
        return f"<p>{escape(found.chosen)} makes no mistake on {found.split}.</p>"
    items = "".join(_sentence_html(found, index, breakdown.wrong[index]) for index in worst)
    key = (
        '<p class="note key">Found or right: <mark class="right">like this</mark>, missed or wrong:'
        ' <mark class="wrong">like this</mark>. Gold spans are marked as missed when any seed '
        "misses them.</p>"
    )
    which = f"The {len(worst)} worst of {len(breakdown.wrong)}"
    if len(worst) == len(breakdown.wrong):
        which = f"All {len(worst)}" if len(worst) > 1 else "The one"
    sentences = "sentences" if len(breakdown.wrong) > 1 else "sentence"
    title = f"{which} {sentences} with mistakes of {found.chosen} on {found.split}"
    return folded(title, f'{key}<ol class="worst">{items}</ol>')


def _sentence_html(found: MistakesFound, index: int, num_wrong: int) -> str:
    sentence = found.sentences[index]
    seeds_of: dict[tuple[Span, ...], list[int]] = {}
    for seed, spans in found.predicted.items():
        seeds_of.setdefault(tuple(sorted(spans[index])), []).append(seed)
    in_all = set.intersection(*(set(spans) for spans in seeds_of))
    shown = sorted(seeds_of, key=lambda spans: -len(seeds_of[spans]))[:_MAX_PREDICTIONS]
    lines = [_line("gold", sentence.words, sentence.spans, in_all)]
    lines += [
        _line(_seeds(seeds_of[spans]), sentence.words, spans, set(sentence.spans))
        for spans in shown
    ]
    if len(seeds_of) > len(shown):
        lines.append(f'<p class="more">and {len(seeds_of) - len(shown)} other predictions</p>')
    runs = len(found.predicted)
    wrong = f"{num_wrong} wrong" + (f" in {runs} runs" if runs > 1 else "")
    return f'<li><p class="head">{escape(sentence.id)}: {wrong}</p>{"".join(lines)}</li>'


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _line(who: str, words: Sequence[str], spans: Sequence[Span], right: Collection[Span]) -> str:
    """One reading of a sentence, spans marked by whether the other side has them."""
    shown, end = [], 0
    for span in sorted(spans):
        shown += map(escape, words[end : span.start])
        name = "right" if span in right else "wrong"
        text = escape(" ".join(words[span.start : span.end]))
        shown.append(f'<mark class="{name}">{text}<sub>{escape(span.label)}</sub></mark>')
        end = span.end
    shown += map(escape, words[end:])
    text = f'<span dir="auto">{" ".join(shown)}</span>'
    return f'<p class="reading"><span class="who">{escape(who)}</span> {text}</p>'
