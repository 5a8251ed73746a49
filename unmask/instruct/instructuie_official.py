"""InstructUIE's released evaluator, faults included, for published prediction files.

It compares sets of normalised strings, never positions. In NER "none" counts as an entity, so
empty sentences that are answered "None" are hits: nine of them and one miss make 0.90 where 0.0
is right. `fix_none` takes that one fault out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from unmask.instruct.metrics import MicroF1, accuracy, mean_over_datasets

NEEDS_COLON = frozenset({"RE", "EPR", "EEA"})
WHOLE_STRING = frozenset({"EET"})
WHOLE_RECORD = frozenset({"EE"})


def normalise(text: str) -> str:
    """The evaluator's form of a string.

    >>> normalise("U.S. - based"), normalise("O ' Brien"), normalise("a{b}c"), normalise("x ,, y")
    ('u.s.-based', "o'brien", 'abc', 'x,y')
    """
    text = " ".join(text.replace("\u2019", "'").split()).lower()
    text = re.sub(r" ?([,:()._;'\-]) ?", r"\1", text)
    text = re.sub(r"[{}]", "", text)
    text = re.sub(r"([,.;])\1+", r"\1", text)
    return text.replace("location", "located")


def items(task: str, text: str) -> set[str]:
    """What an answer counts as: pieces between ";", in relations only those with a colon."""
    if task in WHOLE_RECORD:
        return _records(text)
    pieces = set(normalise(text).split(";")) if task != "ES" else set(normalise(text).split(","))
    return {piece for piece in pieces if ":" in piece} if task in NEEDS_COLON else pieces


def _records(text: str) -> set[str]:
    """Events, each with its arguments sorted, so that their order does not matter."""
    found = set()
    for record in re.split(r"\),\(", normalise(text).strip("()")):
        head, *arguments = record.split(",")
        found.add(",".join([head, *sorted(arguments)]))
    return found


def evaluate(task: str, pairs: Iterable[tuple[str, str]], fix_none: bool = False) -> dict[str, Any]:
    """Score (ground truth, prediction) pairs of one data set.

    Returns:
        F1 with its counts; `accuracy` for EE (set of whole records) and EET (the whole string,
        so that another order is wrong).
    """
    if task in WHOLE_STRING:
        return accuracy([normalise(gold) == normalise(found) for gold, found in pairs])
    if task in WHOLE_RECORD:
        return accuracy([items(task, gold) == items(task, found) for gold, found in pairs])
    metric = MicroF1()
    for gold, found in pairs:
        sides = (items(task, gold), items(task, found))
        nothing = {"none", ""} if fix_none else set()
        metric.update(sides[0] - nothing, sides[1] - nothing)
    return metric.compute()


def report(by_dataset: dict[str, dict[str, Any]]) -> float:
    """The released report: the unweighted mean over data sets."""
    key = "f1" if all("f1" in score for score in by_dataset.values()) else "accuracy"
    return mean_over_datasets(by_dataset, key)


def audit(
    task: str,
    pairs: Sequence[tuple[str, str]],
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
) -> dict[str, int]:
    """How often (ground truth, prediction) pairs are odd, in the released evaluator's own terms.

    void: nothing at all; long: 512 letters or more; repeated: five letters or more three times in
    a row; both_none, truth_none, prediction_none: who says that there is nothing. Of NER and ET
    also unparsed: something, but no item with a colon; unknown_label: an item whose type is not
    among the query's labels; unfaithful: one whose span is not in the sentence.
    """
    names = ("void", "long", "repeated", "both_none", "truth_none", "prediction_none")
    found: dict[str, int] = dict.fromkeys((*names, "unparsed", "unknown_label", "unfaithful"), 0)
    for (gold, prediction), sentence, options in zip(pairs, texts, labels, strict=True):
        nothing = [normalise(one.strip()) in ("", "none") for one in (gold, prediction)]
        found["void"] += not prediction.strip()
        found["long"] += len(prediction) >= 512
        found["repeated"] += re.search(r"(\w{5,32})\1{2,}", prediction[:4096]) is not None
        found["both_none"] += all(nothing)
        found["truth_none"] += nothing == [True, False]
        found["prediction_none"] += nothing == [False, True]
        if task not in ("NER", "ET") or nothing[1]:
            continue
        read = [piece.split(":", 1) for piece in items(task, prediction.strip()) if ":" in piece]
        known = {normalise(label) for label in options}
        found["unparsed"] += not read
        found["unknown_label"] += any(kind not in known for kind, _ in read)
        found["unfaithful"] += any(span not in normalise(sentence) for _, span in read)
    return found
