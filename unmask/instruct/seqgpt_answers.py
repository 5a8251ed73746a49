"""SeqGPT's two kinds of answer: lines of "label: span TAB span", and a list of labels.

Both are read patiently and in linear time. A label may hold a colon: the longest known label that
begins a line and stands before a colon is taken. The one thing that is easy to get wrong: a label
list may be separated by commas, and a label may hold a comma, so whole labels are tried first.
"""
# ruff: noqa: RUF001, RUF002 (full-width punctuation is meant)

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

NONE = "None"
SEPARATOR = "\t"
NOTHING = frozenset({"", "none", "无"})
_COMMAS = re.compile("[,，、]")


def spans_answer(
    gold: Mapping[str, Sequence[str]], labels: Iterable[str], explicit_none: bool = True
) -> str:
    r"""A line for each label in order; without `explicit_none` only for those that have spans.

    >>> spans_answer({"person": ["Bush", "Blair"]}, ["person", "place"])
    'person: Bush\tBlair\nplace: None\n'
    """
    lines = [
        f"{label}: {SEPARATOR.join(gold.get(label, ())) or NONE}\n"
        for label in labels
        if explicit_none or gold.get(label)
    ]
    return "".join(lines)


def labels_answer(gold: Iterable[str], labels: Iterable[str]) -> str:
    r"""One line with the gold labels in the order asked; "None" when there is none.

    >>> labels_answer(["Law", "Economy"], ["Economy", "Law", "Politics"])
    'Economy\tLaw\n'
    """
    chosen = set(gold)
    return (SEPARATOR.join(label for label in labels if label in chosen) or NONE) + "\n"


def read_spans(
    output: str, labels: Sequence[str]
) -> tuple[list[tuple[str, str]] | None, list[str]]:
    r"""(label, span) pairs in the order written, and what was wrong; None when no line is read.

    >>> read_spans("person：Bush\nplace: None\ntime: now", ["person", "place"])
    ([('person', 'Bush')], ['unknown label: time: now'])
    """
    known = {label_key(label): label for label in labels}
    longest = max(map(len, known), default=0)
    pairs, errors, num_read = [], [], 0
    lines = [line for line in output.split("\n") if line.strip()]
    for line in lines:
        label, rest = split_label(line.strip(), known, longest)
        if label is None:
            errors.append(f"unknown label: {line.strip()[:60]}")
            continue
        num_read += 1
        spans = (part.strip() for part in rest.split(SEPARATOR))
        pairs += [(label, span) for span in spans if span.casefold() not in NOTHING]
    if lines and not num_read:
        return None, [f"no line begins with a label: {output.strip()[:60]}"]
    return pairs, errors


def split_label(line: str, known: Mapping[str, str], longest: int) -> tuple[str | None, str]:
    """The longest known label before a colon, and what comes after it."""
    found, rest = None, ""
    for end in range(min(longest + 2, len(line))):
        if line[end] in ":：" and (label := label_key(line[:end])) in known:
            found, rest = known[label], line[end + 1 :]
    return found, rest


def read_labels(output: str, labels: Sequence[str]) -> tuple[list[str] | None, list[str]]:
    r"""The labels named, each once, and what was wrong; None when none could be read.

    >>> read_labels("Economy，Law, Sport", ["Economy", "Law"])
    (['Economy', 'Law'], ['unknown label: Sport'])
    """
    known = {label_key(label): label for label in labels}
    found, errors, num_none = [], [], 0
    for part in _label_parts(output, known):
        if label_key(part) in known:
            found.append(known[label_key(part)])
        elif part.casefold() in NOTHING:
            num_none += 1
        else:
            errors.append(f"unknown label: {part[:60]}")
    if errors and not found and not num_none:
        return None, [f"no known label: {output.strip()[:60]}"]
    return list(dict.fromkeys(found)), errors


def _label_parts(output: str, known: Mapping[str, str]) -> Iterable[str]:
    for line in re.split(r"[\t\n\r]", output):
        part = line.strip()
        if label_key(part) in known:
            yield part
        elif part:
            yield from (piece.strip() for piece in _COMMAS.split(part) if piece.strip())


def label_key(label: str) -> str:
    """A label as it is looked up: the released code writes the commas in it in full width."""
    return label.strip().replace("，", ",")
