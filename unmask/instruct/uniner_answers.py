"""Lists of strings as UniversalNER models answer them: the released reading, and a patient one.

Also the released normalisation of strings. It maps "a" and "-" alike to the empty string, which
then match each other; that is part of the published numbers.
"""

from __future__ import annotations

import json
import re
import string
from typing import Any

from unmask.instruct.parsing import balanced, load_literal

_RELEASED = re.compile(r"\[(.*?)\]")
# An unclosed string runs to the end, so that no search begins twice in the same text.
_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*+("|\Z)', re.DOTALL)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, no punctuation, no articles, single spaces.

    >>> normalise("The U.S.  Navy"), normalise("-"), normalise("a")
    ('us navy', '', '')
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def read_as_released(text: str) -> list[str] | None:
    """The strings that the released evaluator takes from an answer; None where it gives up.

    The answer must begin with the list, on one line, in JSON, and end at the first "]". Strings
    that are equal once normalised are kept once.
    """
    match = _RELEASED.match(text)
    if match is None:
        return None
    try:
        items = json.loads(match.group())
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in items):
        return None
    return list({normalise(item): item for item in reversed(items)}.values())[::-1]


def read_patiently(text: str) -> tuple[list[str] | None, list[str]]:
    """The strings of the first list in an answer, and what had to be mended to read them.

    A list that is cut off gives its whole strings. None when there is no list.
    """
    start = text.find("[")
    if start < 0:
        return None, ["no list: " + text[:40]]
    errors = []
    end = balanced(text, start)
    if end is None:
        errors.append("list is cut off")
        return _unique(_whole_strings(text[start:])), errors
    if text[:start].strip() or text[end:].strip():
        errors.append("text around the list")
    body = text[start:end]
    found, value = load_literal(body)
    if not found:
        return _unique(_whole_strings(body)), [*errors, "not a list of strings: " + body[:40]]
    if not _is_json(body):
        errors.append("a Python list, not JSON")
    return _unique(_strings(value, errors)), errors


def read_object(text: str) -> tuple[dict[str, list[str]] | None, list[str]]:
    """The object of the all-in-one variant: a list of strings for every type."""
    start = text.find("{")
    if start < 0:
        return None, ["no object: " + text[:40]]
    end = balanced(text, start)
    errors = [] if end is not None else ["object is cut off"]
    for closer in ("",) if end is not None else ("", '"]}', "]}", "}", '": []}'):
        found, value = load_literal(text[start:end].rstrip().rstrip(",") + closer)
        if found and isinstance(value, dict):
            if end is not None and (text[:start].strip() or text[end:].strip()):
                errors.append("text around the object")
            kept = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, list)}
            if len(kept) < len(value):
                errors.append("a type without a list")
            return {name: _unique(_strings(items, errors)) for name, items in kept.items()}, errors
    return None, ["not an object: " + text[start : start + 40]]


def _strings(value: Any, errors: list[str]) -> list[str]:
    kept = [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
    if not isinstance(value, list) or len(kept) < len(value):
        errors.append("something else than strings")
    return kept


def _whole_strings(text: str) -> list[str]:
    strings = []
    for match in _JSON_STRING.finditer(text):
        found, value = load_literal(match.group()) if match.group(1) else (False, None)
        if found and isinstance(value, str):
            strings.append(value)
    return strings


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))
