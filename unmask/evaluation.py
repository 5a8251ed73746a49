"""Scores and mistakes of one labeler on labelled sentences: `unmask evaluate`.

Tags are predicted exactly as a sweep does it (the most probable tag of each word, long sentences
cut, full gold), so the numbers are those of the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unmask.analysis.mistakes import MistakeReport, find_mistakes
from unmask.analysis.scoring import score
from unmask.data.sentence import Sentence
from unmask.data.tags import spans_from_tags
from unmask.model import UnmaskedForTokenClassification
from unmask.training.evaluate import predict_tags


@dataclass(frozen=True)
class Evaluation:
    """`scores` is what `unmask.analysis.scoring.score` gives; `tags` are those predicted."""

    sentences: tuple[Sentence, ...]
    tags: tuple[tuple[str, ...], ...]
    scores: dict[str, Any]
    mistakes: MistakeReport

    def to_text(self, num_worst: int = 10) -> str:
        """A table by label, the kinds of mistakes, and the sentences with most of them."""
        return "\n\n".join(
            [self._table(), self._kinds(), *self._worst(num_worst)],
        )

    def _table(self) -> str:
        rows = {"all (micro)": self.scores, **self.scores["per_label"]}
        width = max(len(name) for name in rows)
        lines = [f"{'label':<{width}}  precision  recall      F1   gold"]
        for name, row in rows.items():
            p, r, f1 = (row[key] for key in ("precision", "recall", "f1"))
            lines.append(f"{name:<{width}}  {p:9.4f}  {r:6.4f}  {f1:6.4f}  {row['support']:>5}")
        s = self.scores
        lines.append(
            f"strict, {s['scheme']}, {s['num_sentences']} sentences, {s['num_truncated_words']} "
            "words cut"
        )
        return "\n".join(lines)

    def _kinds(self) -> str:
        report = self.mistakes
        counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
        lines = [f"{report.num_correct} spans correct; wrong: {counts}"]
        for (gold, predicted), count in list(report.confusions.items())[:10]:
            lines.append(f"  {gold} taken for {predicted}: {count}")
        for name, (found, total) in (report.recall_by_exposure or {}).items():
            lines.append(f"  of {total} spans {name} in training, {found} found")
        return "\n".join(lines)

    def _worst(self, num_worst: int) -> list[str]:
        return [
            f"{self.sentences[index].id}: {count} wrong\n"
            f"  gold       {_marked(self.sentences[index].words, self.sentences[index].tags)}\n"
            f"  predicted  {_marked(self.sentences[index].words, self.tags[index])}"
            for index, count in self.mistakes.worst[:num_worst]
        ]


def evaluate(
    labeler: UnmaskedForTokenClassification,
    sentences: Sequence[Sentence],
    train: Sequence[Sentence] | None = None,
) -> Evaluation:
    """Tag `sentences` and compare; with `train`, recall is split into seen and unseen spans.

    Raises:
        ValueError: when there is nothing to evaluate on.
    """
    if not sentences:
        raise ValueError("there is no sentence to evaluate on: is this split empty?")
    tags, num_cut = predict_tags(labeler, [sentences], labeler.max_subtokens)[0]
    gold = [sentence.tags for sentence in sentences]
    return Evaluation(
        tuple(sentences),
        tuple(map(tuple, tags)),
        score(gold, tags, num_truncated_words=num_cut),
        find_mistakes(sentences, tags, train),
    )


def _marked(words: Sequence[str], tags: Sequence[str]) -> str:
    """Running text with spans as [words LABEL]."""
    shown = list(words)
    for span in spans_from_tags(tags):
        shown[span.start] = "[" + shown[span.start]
        shown[span.end - 1] += f" {span.label}]"
    return " ".join(shown)
