"""What came out of a model's answer, how well it could be read, and how often that happened.

Parsers are total: any string gives a `Parsed`, in time that grows with its length and not with
its square. `empty` is a well-formed "nothing there" and differs from `malformed`, which
contributes no prediction and is counted.
"""

from __future__ import annotations

import ast
import json
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from unmask.instruct.examples import Item

STATUSES = ("ok", "empty", "partial", "malformed")
MAX_LITERAL = 20_000
"""Longest text handed to Python's own parser, which is slow and deep."""


@dataclass(frozen=True)
class Parsed:
    """Items, and how they were read.

    ok: read whole, at least one item. empty: a well-formed "nothing". partial: something was
    dropped or mended, `errors` say what. malformed: nothing could be read.
    """

    items: tuple[Item, ...]
    status: str
    errors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status
        assert not self.items or self.status in ("ok", "partial"), self


def parsed(items: list[Any] | tuple[Any, ...], errors: list[str] | tuple[str, ...] = ()) -> Parsed:
    """`ok` or `empty` without errors, `partial` with.

    >>> parsed([]).status, parsed([], ["dropped 3"]).status
    ('empty', 'partial')
    """
    if errors:
        return Parsed(tuple(items), "partial", tuple(errors))
    return Parsed(tuple(items), "ok" if items else "empty")


def malformed(reason: str) -> Parsed:
    """Nothing could be read, for this reason."""
    return Parsed((), "malformed", (reason,))


@dataclass
class ParseCounts:
    """How many answers ended in each status, and the most frequent reasons."""

    statuses: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, result: Parsed) -> None:
        """Count one answer."""
        self.statuses[result.status] += 1
        # A reason ends where the offending text begins, so that equal faults count as one.
        self.reasons.update(reason.partition(":")[0] for reason in result.errors)

    def to_dict(self) -> dict[str, Any]:
        """Every status with its count, and up to ten reasons."""
        return {
            **{status: self.statuses[status] for status in STATUSES},
            "reasons": dict(self.reasons.most_common(10)),
        }


def balanced(text: str, start: int) -> int | None:
    """Where the bracket that opens at `start` closes, exclusive; None when it does not.

    Brackets inside quoted strings do not count.

    >>> balanced('x ["a]", 1] y', 2)
    11
    """
    depth, quote, position = 0, "", start
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
            if depth == 0:
                return position + 1
        elif letter == '"' or (letter == "'" and _opens_quote(text, position)):
            quote = letter
        position += 1
    return None


def _opens_quote(text: str, position: int) -> bool:
    """Whether an apostrophe begins a string: it follows a bracket, comma or colon."""
    before = position - 1
    while before >= 0 and position - before <= 3 and text[before] == " ":
        before -= 1
    return before >= 0 and text[before] in "[{(,:"


def load_literal(text: str) -> tuple[bool, Any]:
    """(True, value) of JSON or of a Python literal; (False, None) when it is neither.

    >>> load_literal('["a"]'), load_literal("['a', ]"), load_literal("[a]")
    ((True, ['a']), (True, ['a']), (False, None))
    """
    try:
        return True, json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > MAX_LITERAL:
        return False, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return True, ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return False, None
