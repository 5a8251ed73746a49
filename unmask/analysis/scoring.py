"""Strict entity-level scores: seqeval in its strict mode, scheme IOB2, micro-averaged.

seqeval's default mode repairs broken tag sequences and can differ wildly from the strict one, so
every score names its mode and scheme. The one thing that is easy to get wrong is the gold: it is
always the full gold, with words that were cut off counted as O predictions, so cutting sentences
can never raise recall.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from unmask.data.tags import spans_from_tags

MODE = "strict"
SCHEME = "IOB2"

# seqeval strips hyphens from both ends of a label, which would merge "B-x" and "B-x-".
_TAG = re.compile(r"O|[BI]-[^-](.*[^-])?", re.DOTALL)


def score(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    num_truncated_words: int = 0,
    reference_truncation: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Micro precision, recall and F1 over exactly matching spans, overall and per label.

    A predicted span counts when its start, end and label are all those of a gold span. A span
    must open with B-; an I- that continues nothing belongs to no span. Undefined ratios are 0.

    Args:
        gold: IOB2 tags, one list per sentence, nothing cut off.
        predicted: tags of the same shape, "O" where a word got no prediction.
        num_truncated_words: how many words got no prediction because their sentence was cut;
            reported, never used to change the score.
        reference_truncation: words cut from the end of each sentence. When given, they are
            dropped from gold and predicted alike, which is what the authors' released code does.
            It inflates recall: use it only to compare with published numbers.

    Returns:
        `f1`, `precision`, `recall` in 0..1, `support` (gold spans), `per_label` (the same four
        per label), `num_sentences`, `num_words`, `num_truncated_words`, `mode`, `scheme`, and
        `gold` ("full", or "truncated" with `reference_truncation`).

    Raises:
        ValueError: when shapes differ or a tag is not IOB2.

    >>> score([["B-PER", "I-PER", "O", "B-LOC"]], [["I-PER", "I-PER", "O", "I-LOC"]])["f1"]
    0.0
    """
    gold, predicted = _checked_pair(gold, predicted)
    if reference_truncation is not None:
        num_truncated_words = sum(reference_truncation)
        gold, predicted = _without_cut_words(gold, predicted, reference_truncation)
    overall, per_label = _seqeval_strict(gold, predicted)
    return {
        **overall,
        "per_label": per_label,
        "num_sentences": len(gold),
        "num_words": sum(map(len, gold)),
        "num_truncated_words": num_truncated_words,
        "mode": MODE,
        "scheme": SCHEME,
        "gold": "full" if reference_truncation is None else "truncated",
    }


def score_table(scores: dict[str, Any]) -> str:
    """What `score` returned, as a table by label that says its mode and scheme."""
    rows = {"all (micro)": scores, **scores["per_label"]}
    width = max(len(name) for name in rows)
    lines = [f"{'label':<{width}}  precision  recall      F1   gold"]
    for name, row in rows.items():
        p, r, f1 = (row[key] for key in ("precision", "recall", "f1"))
        lines.append(f"{name:<{width}}  {p:9.4f}  {r:6.4f}  {f1:6.4f}  {row['support']:>5}")
    lines.append(
        f"{scores['mode']}, {scores['scheme']}, {scores['num_sentences']} sentences, "
        f"{scores['num_truncated_words']} words cut"
    )
    return "\n".join(lines)


def default_mode_f1(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> float:
    """F1 by seqeval's default mode, which mends broken sequences; nothing here chooses by it.

    >>> default_mode_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["I-PER", "I-PER", "O", "I-LOC"]])
    1.0
    """
    from seqeval.metrics import f1_score

    gold, predicted = _checked_pair(gold, predicted)
    zero: Any = 0
    f1: Any = f1_score(gold or [["O"]], predicted or [["O"]], zero_division=zero)
    return float(f1)


def sentence_counts(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> list[tuple[int, int, int]]:
    """Per sentence: spans that match, spans predicted, spans in gold.

    Their sums give the micro scores, so intervals can be had by drawing sentences anew
    (`unmask.results.over_sentences`).
    """
    gold, predicted = _checked_pair(gold, predicted)
    counts = []
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        gold_spans, predicted_spans = (
            set(spans_from_tags(gold_tags)),
            set(spans_from_tags(predicted_tags)),
        )
        counts.append((len(gold_spans & predicted_spans), len(predicted_spans), len(gold_spans)))
    return counts


def _seqeval_strict(
    gold: list[list[str]], predicted: list[list[str]]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """(micro scores, scores per label) with each side parsed once."""
    from seqeval.metrics.v1 import precision_recall_fscore_support
    from seqeval.scheme import IOB2, Entities

    # seqeval refuses an empty corpus; one sentence without words scores the same.
    gold, predicted = gold or [[]], predicted or [[]]
    sides: Any = {
        "entities_true": Entities(gold, IOB2),
        "entities_pred": Entities(predicted, IOB2),
    }
    labels = sorted(sides["entities_true"].unique_tags | sides["entities_pred"].unique_tags)
    # Zero is what seqeval puts for an undefined ratio anyway; named, it does not warn.
    zero: Any = 0

    def prf(average: str | None) -> tuple[Any, ...]:
        return precision_recall_fscore_support(
            gold, predicted, average=average, scheme=IOB2, zero_division=zero, **sides
        )

    rows = zip(*prf(None), strict=True)
    per_label = {label: _as_dict(*row) for label, row in zip(labels, rows, strict=True)}
    return _as_dict(*prf("micro")), per_label


def _as_dict(precision: float, recall: float, f1: float, support: int) -> dict[str, Any]:
    return {
        "f1": float(f1),
        "precision": float(precision),
        "recall": float(recall),
        "support": int(support),
    }


def _checked_pair(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[list[list[str]], list[list[str]]]:
    """Both sides as lists of lists, of one shape and in IOB2."""
    if len(gold) != len(predicted):
        raise ValueError(
            f"gold has {len(gold)} sentences but predicted has {len(predicted)}; "
            "give one list of tags per sentence on both sides"
        )
    for index, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        if len(gold_tags) != len(predicted_tags):
            raise ValueError(
                f"sentence {index}: {len(gold_tags)} gold tags but {len(predicted_tags)} predicted "
                'tags; give one tag per word, "O" for words that were cut off'
            )
    return _checked_tags("gold", gold), _checked_tags("predicted", predicted)


def _checked_tags(side: str, sentences: Iterable[Sequence[str]]) -> list[list[str]]:
    sentences = [list(tags) for tags in sentences]
    wrong = {tag for tag in set().union(*sentences) if not _TAG.fullmatch(tag)}
    for index, tags in enumerate(sentences):
        for word, tag in enumerate(tags) if wrong else ():
            if tag in wrong:
                raise ValueError(
                    f"sentence {index}, word {word}: {side} tag {tag!r} is not IOB2; expected "
                    '"O", "B-LABEL" or "I-LABEL" with no hyphen at either end of the label'
                )
    return sentences


def _without_cut_words(
    gold: list[list[str]], predicted: list[list[str]], num_cut: Sequence[int]
) -> tuple[list[list[str]], list[list[str]]]:
    if len(num_cut) != len(gold):
        raise ValueError(
            f"reference_truncation has {len(num_cut)} numbers for {len(gold)} sentences; "
            "give how many words were cut from each, 0 for most"
        )
    for index, (tags, cut) in enumerate(zip(gold, num_cut, strict=True)):
        if not 0 <= cut <= len(tags):
            raise ValueError(
                f"reference_truncation[{index}] is {cut}, but the sentence has {len(tags)} words"
            )
    kept = [len(tags) - cut for tags, cut in zip(gold, num_cut, strict=True)]
    return (
        [tags[:length] for tags, length in zip(gold, kept, strict=True)],
        [tags[:length] for tags, length in zip(predicted, kept, strict=True)],
    )
