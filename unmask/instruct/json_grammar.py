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


def lists_by_key(keys: Sequence[str], element: str = STRING) -> Grammar:
    """An object with a list for every key; keys are in JSON already.

    >>> lists_by_key(['"a"', '"b"']).closers[:3]
    ('', ']}', '"]}')
    """
    pattern = object_of([(key, list_of(element)) for key in keys])
    return Grammar(rf" ?{pattern}", _endings(keys))


def _endings(keys: Sequence[str]) -> tuple[str, ...]:
    """Ways to end an object with every key that it still lacks, wherever it was cut off."""
    rests = [", ".join(f"{key}: []" for key in keys[index:]) for index in range(len(keys) + 1)]
    opened = [
        f"{closing}{', ' if rest else ''}{rest}}}" for rest in rests for closing in ("]", '"]')
    ]
    return tuple(sorted(["", *opened, *(f"{start}{rests[0]}}}" for start in ("", "{"))], key=len))
