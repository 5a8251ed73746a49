"""The pattern of mentions that stand in a sentence, for constrained decoding.

Without it an answer may go on with whatever the model likes to say, and never come to its type.
"""

from __future__ import annotations

from collections.abc import Sequence

import regex

LONGEST = 12
"""Words of a mention."""


def mentions_of(words: Sequence[str], separators: str, longest: int = LONGEST) -> str:
    """A run of at most so many words, joined by single spaces, none with a separator in it.

    Empty when no word can stand in an answer.

    >>> pattern = mentions_of(("EU", "rejects", ";", "it"), ";:")
    >>> [bool(regex.fullmatch(pattern, text)) for text in ("EU rejects", "rejects ; it", "EU it")]
    [True, False, False]
    """
    patterns: list[str] = []
    usable = [word if not set(word) & set(separators) and word.strip() else None for word in words]
    for start in range(len(usable)):
        run: list[str] = []
        for word in usable[start : start + longest]:
            if word is None:
                break
            run.append(regex.escape(word))
        pattern = ""
        for word in reversed(run):
            pattern = word + (f"(?: {pattern})?" if pattern else "")
        if pattern:
            patterns.append(pattern)
    return "|".join(dict.fromkeys(patterns))
