"""Sorts wrong spans into boundary, label, missed and invented.

Spans are read strictly, as `unmask.analysis.scoring` does, so the counts here add up to the
score: every gold span is correct, boundary, label or missed; every predicted span is correct,
boundary, label or invented; and each is in exactly one of those classes. The one thing that is
easy to get wrong: a predicted span that overlaps a gold span but has neither its boundaries nor
its label is no near miss. It counts as one missed and one invented span.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from unmask.data.sentence import Sentence, Span
from unmask.data.tags import spans_from_tags

KINDS = ("boundary", "label", "missed", "invented")
LENGTHS = ("1 word", "2 words", "3 words", "4 words or more")
POSITIONS = ("first third", "second third", "last third")


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong span, or one gold span paired with the predicted span that nearly hit it.

    `gold` is None for invented spans, `predicted` is None for missed ones.
    """

    kind: str
    sentence: int
    gold: Span | None
    predicted: Span | None


@dataclass(frozen=True)
class MistakeReport:
    """All mistakes over a split, with the counts that summarise them.

    `per_label` counts correct, boundary, label and missed by gold label and invented by
    predicted label. `confusions` counts (gold label, predicted label) of label mistakes.
    `recall_by_exposure` maps "seen" and "unseen" to (gold spans found, gold spans), or is None
    when no training sentences were given; `recall_by_length` does the same for the words of a
    span, `recall_by_position` for the third of its sentence in which a span begins. `worst` lists
    (sentence index, wrong spans), most first.
    """

    mistakes: tuple[Mistake, ...]
    num_correct: int
    per_label: dict[str, dict[str, int]]
    confusions: dict[tuple[str, str], int]
    recall_by_exposure: dict[str, tuple[int, int]] | None
    recall_by_length: dict[str, tuple[int, int]]
    recall_by_position: dict[str, tuple[int, int]]
    worst: tuple[tuple[int, int], ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many mistakes of each kind, in the order of `KINDS`."""
        found = Counter(mistake.kind for mistake in self.mistakes)
        return {kind: found[kind] for kind in KINDS}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: counts and the worst sentences, without the single mistakes."""
        exposure = self.recall_by_exposure
        return {
            "num_correct": self.num_correct,
            "counts": self.counts,
            "per_label": self.per_label,
            "confusions": [[*pair, count] for pair, count in self.confusions.items()],
            "recall_by_exposure": exposure and _as_lists(exposure),
            "recall_by_length": _as_lists(self.recall_by_length),
            "recall_by_position": _as_lists(self.recall_by_position),
            "worst": [list(row) for row in self.worst],
        }


class _Outcome(NamedTuple):
    """A gold span, and whether it was found."""

    sentence: Sentence
    span: Span
    is_found: bool


def find_mistakes(
    sentences: Sequence[Sentence],
    predicted: Sequence[Sequence[str]],
    train: Iterable[Sentence] | None = None,
    num_worst: int = 20,
) -> MistakeReport:
    """Compare predicted IOB2 tags with the gold tags of `sentences`.

    With `train`, gold spans are split into seen (the same words in the same case are a span of
    the same label somewhere in training) and unseen.

    Raises:
        ValueError: when there is not exactly one predicted tag per word.
    """
    _check_shape(sentences, predicted)
    mistakes: list[Mistake] = []
    correct: list[tuple[int, Span]] = []
    for index, (sentence, tags) in enumerate(zip(sentences, predicted, strict=True)):
        hits, wrong = sort_spans(spans_from_tags(sentence.tags), spans_from_tags(tags), index)
        mistakes += wrong
        correct += [(index, span) for span in hits]
    outcomes = [_Outcome(sentences[index], span, True) for index, span in correct]
    outcomes += [_Outcome(sentences[m.sentence], m.gold, False) for m in mistakes if m.gold]
    exposure = None
    if train is not None:
        forms = surface_forms(train)
        exposure = _recall(outcomes, ("seen", "unseen"), lambda one: _exposure(one, forms))
    return MistakeReport(
        mistakes=tuple(mistakes),
        num_correct=len(correct),
        per_label=_count_per_label(mistakes, [span for _, span in correct]),
        confusions=_count_confusions(mistakes),
        recall_by_exposure=exposure,
        recall_by_length=_recall(outcomes, LENGTHS, _length),
        recall_by_position=_recall(outcomes, POSITIONS, _position),
        worst=_worst_sentences(mistakes, num_worst),
    )


def sort_spans(
    gold: Iterable[Span], predicted: Iterable[Span], sentence: int = 0
) -> tuple[list[Span], list[Mistake]]:
    """(correct spans, mistakes) of one sentence; spans of one side must not overlap.

    Pairs are made one to one: exact matches first, then equal boundaries ("label"), then equal
    labels with the largest overlap ("boundary", leftmost on a tie); the rest is missed or
    invented.
    """
    gold_left, predicted_left = sorted(gold), sorted(predicted)
    correct = [span for span in gold_left if span in set(predicted_left)]
    gold_left = [span for span in gold_left if span not in set(correct)]
    predicted_left = [span for span in predicted_left if span not in set(correct)]
    mistakes: list[Mistake] = []
    for kind, closeness in (("label", _same_boundaries), ("boundary", _overlap_with_same_label)):
        for gold_span, predicted_span in _closest_pairs(gold_left, predicted_left, closeness):
            mistakes.append(Mistake(kind, sentence, gold_span, predicted_span))
            gold_left.remove(gold_span)
            predicted_left.remove(predicted_span)
    mistakes += [Mistake("missed", sentence, span, None) for span in gold_left]
    mistakes += [Mistake("invented", sentence, None, span) for span in predicted_left]
    return correct, mistakes


def surface_forms(sentences: Iterable[Sentence]) -> set[tuple[str, tuple[str, ...]]]:
    """Every (label, words) that is a gold span somewhere in `sentences`."""
    return {
        (span.label, sentence.words[span.start : span.end])
        for sentence in sentences
        for span in spans_from_tags(sentence.tags)
    }


def _same_boundaries(gold: Span, predicted: Span) -> int:
    return int((gold.start, gold.end) == (predicted.start, predicted.end))


def _overlap_with_same_label(gold: Span, predicted: Span) -> int:
    overlap = min(gold.end, predicted.end) - max(gold.start, predicted.start)
    return max(overlap, 0) if gold.label == predicted.label else 0


def _closest_pairs(
    gold: list[Span], predicted: list[Span], closeness: Callable[[Span, Span], int]
) -> list[tuple[Span, Span]]:
    """Pairs with a positive closeness, closest first, each span used once at most."""
    candidates = sorted(
        (-closeness(one, other), one, other)
        for one in gold
        for other in predicted
        if closeness(one, other) > 0
    )
    pairs: list[tuple[Span, Span]] = []
    for _, one, other in candidates:
        if all(one != paired[0] and other != paired[1] for paired in pairs):
            pairs.append((one, other))
    return pairs


def _check_shape(sentences: Sequence[Sentence], predicted: Sequence[Sequence[str]]) -> None:
    if len(sentences) != len(predicted):
        raise ValueError(
            f"{len(sentences)} sentences but {len(predicted)} lists of predicted tags; "
            "give one list per sentence"
        )
    for sentence, tags in zip(sentences, predicted, strict=True):
        if len(sentence.words) != len(tags):
            raise ValueError(
                f"sentence {sentence.id}: {len(sentence.words)} words but {len(tags)} predicted "
                'tags; give one tag per word, "O" for words that were cut off'
            )


def _count_per_label(mistakes: list[Mistake], correct: list[Span]) -> dict[str, dict[str, int]]:
    found = Counter((span.label, "correct") for span in correct)
    for mistake in mistakes:
        span = mistake.gold or mistake.predicted
        assert span is not None, "a mistake has a gold or a predicted span"
        found[span.label, mistake.kind] += 1
    labels = sorted({label for label, _ in found})
    return {label: {kind: found[label, kind] for kind in ("correct", *KINDS)} for label in labels}


def _count_confusions(mistakes: list[Mistake]) -> dict[tuple[str, str], int]:
    found = Counter(
        (mistake.gold.label, mistake.predicted.label)
        for mistake in mistakes
        if mistake.kind == "label" and mistake.gold and mistake.predicted
    )
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _recall(
    outcomes: Sequence[_Outcome], names: Sequence[str], name_of: Callable[[_Outcome], str]
) -> dict[str, tuple[int, int]]:
    """(found, all) gold spans by name."""
    total = Counter(map(name_of, outcomes))
    found = Counter(name_of(outcome) for outcome in outcomes if outcome.is_found)
    return {name: (found[name], total[name]) for name in names}


def _exposure(outcome: _Outcome, seen_forms: set[tuple[str, tuple[str, ...]]]) -> str:
    span = outcome.span
    form = (span.label, outcome.sentence.words[span.start : span.end])
    return "seen" if form in seen_forms else "unseen"


def _length(outcome: _Outcome) -> str:
    return LENGTHS[min(outcome.span.end - outcome.span.start, len(LENGTHS)) - 1]


def _position(outcome: _Outcome) -> str:
    return POSITIONS[outcome.span.start * len(POSITIONS) // len(outcome.sentence.words)]


def _as_lists(counts: dict[str, tuple[int, int]]) -> dict[str, list[int]]:
    return {name: list(of) for name, of in counts.items()}


def _worst_sentences(mistakes: list[Mistake], num_worst: int) -> tuple[tuple[int, int], ...]:
    found = Counter(mistake.sentence for mistake in mistakes)
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:num_worst])
