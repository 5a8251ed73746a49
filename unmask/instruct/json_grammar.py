"""Grammars of answers that are JSON objects from every label to a list, for constrained decoding.

An answer that ran out of tokens is closed with every label that it still lacks, each with an
empty list.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

from unmask.instruct.system import Grammar

STRING = r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})+"'
"""A string that is not empty."""


def list_of(element: str) -> str:
    """The pattern of a list, written as `json.dumps` writes it.

    >>> bool(regex.fullmatch(list_of(STRING), '["a", "b"]'))
    True
    """
    return rf"\[(?:{element}(?:, {element})*)?\]"


def object_of(values: Sequence[tuple[str, str]]) -> str:
    """The pattern of an object with these keys, each already in JSON, and patterns of values."""
    pairs = ", ".join(rf"{regex.escape(key)}: {value}" for key, value in values)
    return rf"\{{{pairs}\}}"


def lists_by_key(keys: Sequence[str], element: str = STRING, empty: str | None = "[]") -> Grammar:
    """An object with a list for every key; keys are in JSON already.

    `empty` is what stands where a list has no element; None leaves out its key.

    >>> lists_by_key(['"a"', '"b"']).closers[:3]
    ('', '}', ']}')
    """
    some = rf"\[{element}(?:, {element})*\]"
    if empty is None:
        pair = rf"(?:{'|'.join(map(regex.escape, keys))}): {some}"
        pattern = rf"\{{(?:(?P<pair>{pair})(?:, (?&pair))*)?\}}"
        return Grammar(rf" ?{pattern}", ("", "}", "{}", "]}", '"]}'))
    value = rf"(?:{some}|{regex.escape(empty)})"
    pattern = object_of([(key, value) for key in keys])
    return Grammar(rf" ?{pattern}", _endings(keys, empty))


def _endings(keys: Sequence[str], empty: str) -> tuple[str, ...]:
    """Ways to end an object with every key that it still lacks, wherever it was cut off."""
    rests = [", ".join(f"{key}: {empty}" for key in keys[at:]) for at in range(len(keys) + 1)]
    begun = ("]", '"]', empty, empty[1:])
    opened = [
        f"{closing}{', ' if rest else ''}{rest}}}" for rest in rests for closing in ("", *begun)
    ]
    return tuple(sorted({"", *opened, *(f"{start}{rests[0]}}}" for start in ("", "{"))}, key=len))
