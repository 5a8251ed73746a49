"""What a labeler gets wrong, as one HTML page that needs nothing else. Knows no model.

Scores by label, who is taken for whom, recall by what a span is like, and the sentences with most
mistakes, gold above predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from unmask.analysis.mistakes import MistakeReport
from unmask.data.sentence import Sentence
from unmask.data.tags import spans_from_tags

MISSED = "nothing, or other bounds"


def render_error_page(
    sentences: Sequence[Sentence],
    predicted: Sequence[Sequence[str]],
    scores: dict[str, Any],
    report: MistakeReport,
    title: str = "What is labeled wrong",
    num_worst: int = 50,
) -> str:
    """The page.

    Args:
        sentences: with gold tags.
        predicted: IOB2 tags, one list a sentence.
        scores: what `unmask.analysis.scoring.score` gave.
        report: what `unmask.analysis.mistakes.find_mistakes` gave.
        title: of the page.
        num_worst: sentences to show.
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{scores['mode']}, {scores['scheme']}; {scores['num_sentences']} sentences, "
        f"{scores['num_truncated_words']} words cut.</p>",
        _score_table(scores),
        "<h2>Kinds of mistakes</h2>",
        _kinds(report),
        "<h2>Who is taken for whom</h2>",
        _confusion(report),
        "<h2>Recall</h2>",
        _recall(report),
        f"<h2>The {min(num_worst, len(report.worst))} worst sentences</h2>",
        *(_worst(sentences[i], predicted[i], n) for i, n in report.worst[:num_worst]),
    ]
    return f"{_HEAD.replace('TITLE', escape(title))}{''.join(parts)}\n"


def _score_table(scores: dict[str, Any]) -> str:
    rows = []
    for name, row in {"all (micro)": scores, **scores["per_label"]}.items():
        numbers = [f"{row[key]:.4f}" for key in ("precision", "recall", "f1")]
        rows.append([name, *numbers, str(row["support"])])
    return _table(["label", "precision", "recall", "F1", "gold spans"], rows)


def _kinds(report: MistakeReport) -> str:
    kinds = list(report.counts)
    rows = [
        [label, *(str(counts[kind]) for kind in ("correct", *kinds))]
        for label, counts in report.per_label.items()
    ]
    total = ["all", str(report.num_correct), *(str(report.counts[kind]) for kind in kinds)]
    return _table(["label", "correct", *kinds], [*rows, total])


def _confusion(report: MistakeReport) -> str:
    """Gold labels down, predicted labels across; exact bounds only, the rest in a column."""
    labels = sorted(report.per_label)
    rows = []
    for gold in labels:
        own = report.per_label[gold]
        cells = [
            own["correct"] if gold == other else report.confusions.get((gold, other), 0)
            for other in labels
        ]
        rows.append([gold, *map(str, cells), str(own["boundary"] + own["missed"])])
    return _table(["gold \\ predicted", *labels, MISSED], rows)


def _recall(report: MistakeReport) -> str:
    groups = {
        "in training": report.recall_by_exposure or {},
        "length": report.recall_by_length,
        "begins in": report.recall_by_position,
    }
    rows = [
        [f"{group}: {name}", f"{found / total:.3f}", f"{found} of {total}"]
        for group, counts in groups.items()
        for name, (found, total) in counts.items()
        if total
    ]
    return _table(["gold spans", "recall", "found"], rows)


def _worst(sentence: Sentence, tags: Sequence[str], count: int) -> str:
    shown = (("gold", sentence.tags), ("predicted", tags))
    rows = "".join(
        f"<tr><th>{name}</th><td>{_marked(sentence.words, its)}</td></tr>" for name, its in shown
    )
    return f"<h3>{escape(sentence.id)}, {count} wrong</h3><table class=text>{rows}</table>"


def _marked(words: Sequence[str], tags: Sequence[str]) -> str:
    shown = [escape(word) for word in words]
    for span in spans_from_tags(tags):
        shown[span.start] = "<mark>" + shown[span.start]
        shown[span.end - 1] += f" <small>{escape(span.label)}</small></mark>"
    return " ".join(shown)


def _table(header: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}"
        for row in rows
    )
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><title>TITLE</title>
<meta name="viewport" content="width=device-width">
<style>
:root { color-scheme: light dark; --mark: #dbeafe; --label: #1e40af; --line: #d5dae0 }
@media (prefers-color-scheme: dark) {
  :root { --mark: #1e3a5f; --label: #9cc4ff; --line: #3a424c }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 1rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2rem }
h3 { font-size: 1rem; margin: 1.2rem 0 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: normal; padding: .15rem .8rem .15rem 0; vertical-align: top }
td { padding: .15rem .8rem .15rem 0 } td { text-align: right } .text td { text-align: left }
thead th { border-bottom: 1px solid var(--line); color: GrayText }
mark { background: var(--mark); color: inherit; border-radius: 3px; padding: 0 2px }
small { color: var(--label) }
</style>
"""
