"""Scores and mistakes of one labeler on labelled sentences: `Labeler.evaluate`, `unmask evaluate`.

Tags are predicted exactly as a sweep does it (the most probable tag of each word, long sentences
cut, full gold), so the numbers are those of the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Union

from unmask.analysis.error_page import render_error_page
from unmask.analysis.mistakes import MistakeReport, find_mistakes
from unmask.analysis.scoring import default_mode_f1, score, score_table
from unmask.data.hub import read_dataset
from unmask.data.records import record_sentence
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions, Source, finish_reading
from unmask.data.tags import spans_from_tags
from unmask.tagging import Tagger, predict_tags

if TYPE_CHECKING:
    from datasets import Dataset

Labelled = Union[Sequence[Sentence], Sequence[dict[str, Any]], "Dataset"]
"""What may be scored on: sentences, records as in JSONL files, or a `datasets.Dataset`."""


class OneLabeler(Tagger, Protocol):
    """A stack that holds one labeler only."""

    max_subtokens: int


NUM_WORST = 50
"""Sentences with most mistakes that are kept for the page."""


@dataclass(frozen=True)
class Evaluation:
    """`scores` is what `unmask.analysis.scoring.score` gives; `tags` are those predicted."""

    sentences: tuple[Sentence, ...]
    tags: tuple[tuple[str, ...], ...]
    scores: dict[str, Any]
    mistakes: MistakeReport

    def to_text(self, num_worst: int = 10) -> str:
        """A table by label, the kinds of mistakes, and the sentences with most of them."""
        gold = [sentence.tags for sentence in self.sentences]
        lenient = (
            f"by seqeval's default mode, which mends broken sequences, F1 would be "
            f"{default_mode_f1(gold, self.tags):.4f}"
        )
        return "\n\n".join(
            [f"{score_table(self.scores)}\n{lenient}", self._kinds(), *self._worst(num_worst)],
        )

    def to_dict(self) -> dict[str, Any]:
        """Scores and mistakes as plain JSON values."""
        return {"scores": self.scores, "mistakes": self.mistakes.to_dict()}

    def to_html(self, title: str = "What is labeled wrong") -> str:
        """The same and more as a page; see `unmask.analysis.error_page`."""
        return render_error_page(self.sentences, self.tags, self.scores, self.mistakes, title)

    def against(self, other: Evaluation) -> Difference:
        """What `other` labels better and worse, sentence by sentence.

        Raises:
            ValueError: when the two were made on other sentences.
        """
        if [s.words for s in self.sentences] != [s.words for s in other.sentences]:
            raise ValueError("two labelers can only be compared on the same sentences")
        mended, broken = [], []
        for index, sentence in enumerate(self.sentences):
            gold = set(spans_from_tags(sentence.tags))
            own, others = (set(spans_from_tags(one.tags[index])) for one in (self, other))
            gain = len(own ^ gold) - len(others ^ gold)
            if gain:
                (mended if gain > 0 else broken).append((index, abs(gain)))
        return Difference(self, other, tuple(mended), tuple(broken))

    def _kinds(self) -> str:
        report = self.mistakes
        counts = ", ".join(f"{count} {kind}" for kind, count in report.counts.items())
        lines = [f"{report.num_correct} spans correct; wrong: {counts}"]
        for (gold, predicted), count in list(report.confusions.items())[:10]:
            lines.append(f"  {gold} taken for {predicted}: {count}")
        for name, (found, total) in (report.recall_by_exposure or {}).items():
            lines.append(f"  of {total} spans {name} in training, {found} found")
        for name, (found, total) in report.recall_by_length.items():
            if total:
                lines.append(f"  of {total} spans of {name}, {found} found")
        return "\n".join(lines)

    def _worst(self, num_worst: int) -> list[str]:
        return [
            f"{self.sentences[index].id}: {count} wrong\n"
            f"  gold       {_marked(self.sentences[index].words, self.sentences[index].tags)}\n"
            f"  predicted  {_marked(self.sentences[index].words, self.tags[index])}"
            for index, count in self.mistakes.worst[:num_worst]
        ]


@dataclass(frozen=True)
class Difference:
    """Two labelers on the same sentences.

    `mended` and `broken` are (sentence, how many spans fewer or more are wrong) where the second
    is better, and worse.
    """

    first: Evaluation
    second: Evaluation
    mended: tuple[tuple[int, int], ...]
    broken: tuple[tuple[int, int], ...]

    def to_text(self, num_shown: int = 10) -> str:
        """Scores of both, and the sentences that changed most, both ways."""
        f1s = [one.scores["f1"] for one in (self.first, self.second)]
        lines = [
            f"F1 {f1s[0]:.4f} -> {f1s[1]:.4f}; {len(self.mended)} sentences are better with the "
            f"second labeler, {len(self.broken)} worse"
        ]
        for name, changed in (("better", self.mended), ("worse", self.broken)):
            for index, count in sorted(changed, key=lambda one: -one[1])[:num_shown]:
                words = self.first.sentences[index].words
                lines.append(
                    f"{name} by {count}: {self.first.sentences[index].id}\n"
                    f"  gold    {_marked(words, self.first.sentences[index].tags)}\n"
                    f"  first   {_marked(words, self.first.tags[index])}\n"
                    f"  second  {_marked(words, self.second.tags[index])}"
                )
        return "\n".join(lines)


def evaluate(
    labeler: OneLabeler,
    sentences: Labelled,
    train: Labelled | None = None,
) -> Evaluation:
    """Tag `sentences` and compare; with `train`, recall is split into seen and unseen spans.

    Raises:
        ValueError: when there is nothing to evaluate on.
    """
    if not len(sentences):
        raise ValueError("there is no sentence to evaluate on: is this split empty?")
    sentences = _read(sentences, "evaluate()")
    train = None if train is None else _read(train, "evaluate(), train")
    tags, num_cut = predict_tags(labeler, [sentences], labeler.max_subtokens)[0]
    gold = [sentence.tags for sentence in sentences]
    return Evaluation(
        tuple(sentences),
        tuple(map(tuple, tags)),
        score(gold, tags, num_truncated_words=num_cut),
        find_mistakes(sentences, tags, train, num_worst=NUM_WORST),
    )


def _read(labelled: Any, place: str) -> Sequence[Sentence]:
    """Sentences as they are; records and rows as a reader of files takes them."""
    options = ReadOptions()
    if not isinstance(labelled, list | tuple):
        return read_dataset(labelled, Source(place, "row"), "a data set", options).sentences
    odd = [one for one in labelled if not isinstance(one, Sentence)]
    if not odd:
        return labelled
    if not all(isinstance(one, dict) for one in labelled):
        raise ValueError(
            f"{place}: {odd[0]!r:.60} is no labelled sentence; give sentences of unmask.data, "
            'records such as {"tokens": [...], "ner_tags": [...]}, or a Dataset'
        )
    numbered = enumerate(labelled, start=1)
    raws = [record_sentence(one, f"{place}:{row}", row, options) for row, one in numbered]
    found = finish_reading(filter(None, raws), Source(place, "row"), "records", options)
    return found.sentences


def _marked(words: Sequence[str], tags: Sequence[str]) -> str:
    """Running text with spans as [words LABEL]."""
    shown = list(words)
    for span in spans_from_tags(tags):
        shown[span.start] = "[" + shown[span.start]
        shown[span.end - 1] += f" {span.label}]"
    return " ".join(shown)
