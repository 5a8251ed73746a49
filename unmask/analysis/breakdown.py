"""Wrong spans of several runs broken down: by kind, by what the missed span was like, by sentence.

Runs of one configuration are added up, so that one lucky seed decides nothing. Spans are sorted
as in `unmask.analysis.mistakes`. The one thing that is easy to get wrong: what a gold span is like
(its length, whether training had it) says nothing about invented spans, so the breakdowns are of
recall, never of F1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from unmask.analysis.mistakes import KINDS, Mistake, sort_spans, surface_forms
from unmask.data.sentence import Sentence, Span
from unmask.data.tags import spans_from_tags


@dataclass(frozen=True, slots=True)
class GoldSentence:
    """Words and gold spans; `seen[i]` tells whether training has the words of span i as a span.

    "Has" means the same words in the same case under the same label.
    """

    id: str
    words: tuple[str, ...]
    spans: tuple[Span, ...]
    seen: tuple[bool, ...]


@dataclass(frozen=True)
class Breakdown:
    """Mistakes of `num_runs` runs on the same sentences, added up.

    `recall` maps a question ("words in the span") and an answer ("2") to (gold spans found, gold
    spans). `confusions` counts (gold label, predicted label) at right boundaries. `wrong` counts
    wrong spans by index of the sentence; sentences without any are left out.
    """

    num_runs: int
    num_correct: int
    kinds: dict[str, int]
    recall: dict[str, dict[str, tuple[int, int]]]
    confusions: dict[tuple[str, str], int]
    wrong: dict[int, int]

    def worst(self, num_sentences: int) -> list[int]:
        """Indices of the sentences with most wrong spans, most first."""
        return sorted(self.wrong, key=lambda index: (-self.wrong[index], index))[:num_sentences]


def _stretch(value: int, starts: Sequence[int]) -> str:
    """The stretch that a number falls in, given where stretches start.

    >>> [_stretch(value, (0, 1, 6)) for value in (0, 5, 6, 70)]
    ['0', '1-5', '6 or more', '6 or more']
    """
    index = max(number for number, start in enumerate(starts) if start <= value)
    if index == len(starts) - 1:
        return f"{starts[index]} or more"
    low, high = starts[index], starts[index + 1] - 1
    return str(low) if low == high else f"{low}-{high}"


_LENGTHS, _SENTENCE_LENGTHS, _DISTANCES = (1, 2, 3, 4), (1, 11, 21, 31), (0, 1, 6, 16)

_QUESTIONS: dict[str, Callable[[GoldSentence, Span, bool], str]] = {
    "seen in training": lambda _, __, seen: "yes" if seen else "no",
    "words in the span": lambda _, span, __: _stretch(span.end - span.start, _LENGTHS),
    "words in the sentence": lambda s, _, __: _stretch(len(s.words), _SENTENCE_LENGTHS),
    "words to its left": lambda _, span, __: _stretch(span.start, _DISTANCES),
    "words to its right": lambda s, span, _: _stretch(len(s.words) - span.end, _DISTANCES),
}
_ANSWERS: dict[str, list[str]] = {
    "seen in training": ["yes", "no"],
    "words in the span": [_stretch(start, _LENGTHS) for start in _LENGTHS],
    "words in the sentence": [_stretch(start, _SENTENCE_LENGTHS) for start in _SENTENCE_LENGTHS],
    "words to its left": [_stretch(start, _DISTANCES) for start in _DISTANCES],
    "words to its right": [_stretch(start, _DISTANCES) for start in _DISTANCES],
}


def gold_sentences(sentences: Iterable[Sentence], train: Iterable[Sentence]) -> list[GoldSentence]:
    """What a breakdown needs to know of a split."""
    known = surface_forms(train)
    found = []
    for sentence in sentences:
        spans = tuple(spans_from_tags(sentence.tags))
        seen = tuple((one.label, sentence.words[one.start : one.end]) in known for one in spans)
        found.append(GoldSentence(sentence.id, sentence.words, spans, seen))
    return found


def break_down(
    sentences: Sequence[GoldSentence], runs: Sequence[Sequence[Sequence[Span]]]
) -> Breakdown:
    """Add up the mistakes of `runs`: for each run the predicted spans of every sentence.

    Raises:
        ValueError: when a run has not exactly one list of spans per sentence.
    """
    total = Counter(key for one in sentences for key in _answers(one, one.spans))
    kinds: Counter[str] = Counter()
    confusions: Counter[tuple[str, str]] = Counter()
    wrong: Counter[int] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    num_correct = 0
    for predicted in runs:
        _check_shape(sentences, predicted)
        for index, (sentence, spans) in enumerate(zip(sentences, predicted, strict=True)):
            correct, mistakes = _sorted(sentence, spans, index)
            num_correct += len(correct)
            if mistakes:
                lost.update(_answers(sentence, set(sentence.spans) - set(correct)))
                wrong[index] += len(mistakes)
                kinds.update(one.kind for one in mistakes)
                confusions.update(
                    (one.gold.label, one.predicted.label)
                    for one in mistakes
                    if one.kind == "label" and one.gold and one.predicted
                )
    return Breakdown(
        len(runs),
        num_correct,
        {kind: kinds[kind] for kind in KINDS},
        _recall(total, lost, len(runs)),
        dict(sorted(confusions.items(), key=lambda item: (-item[1], item[0]))),
        dict(wrong),
    )


def _sorted(
    sentence: GoldSentence, predicted: Sequence[Span], index: int
) -> tuple[list[Span], list[Mistake]]:
    if set(predicted) == set(sentence.spans):  # most sentences, and much the fastest
        return list(sentence.spans), []
    return sort_spans(sentence.spans, predicted, index)


def _answers(sentence: GoldSentence, wanted: Collection[Span]) -> list[tuple[str, str]]:
    """(question, answer) for each gold span that is wanted."""
    return [
        (question, answer(sentence, span, seen))
        for span, seen in zip(sentence.spans, sentence.seen, strict=True)
        if span in wanted
        for question, answer in _QUESTIONS.items()
    ]


def _recall(
    total: Counter[tuple[str, str]], lost: Counter[tuple[str, str]], num_runs: int
) -> dict[str, dict[str, tuple[int, int]]]:
    """Answers in their order; those that no gold span gives are left out."""
    return {
        question: {
            answer: (num_gold * num_runs - lost[question, answer], num_gold * num_runs)
            for answer in answers
            if (num_gold := total[question, answer])
        }
        for question, answers in _ANSWERS.items()
    }


def _check_shape(sentences: Sequence[GoldSentence], predicted: Sequence[Sequence[Span]]) -> None:
    if len(sentences) != len(predicted):
        raise ValueError(
            f"{len(sentences)} sentences but predicted spans of {len(predicted)}; they are not of "
            "the same split"
        )
