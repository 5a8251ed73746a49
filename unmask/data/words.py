"""Running text to words with their offsets.

Words are runs of letters and digits; every other visible character is a word of its own, so
that an annotated span can begin or end at any punctuation mark. The one thing that is easy to
get wrong: the marks of many scripts (Devanagari vowel signs, accents written apart, the joiners
of Persian) are no letters to most regular expressions; here they stay with what they follow.
"""

from __future__ import annotations

import unicodedata

_UNSPACED_SCRIPTS = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "THAI", "LAO")


def split_words(text: str) -> tuple[tuple[int, int], ...]:
    """(start, end) character offsets of each word, end exclusive, in order.

    Scripts written without spaces give one word a character.

    >>> text = "Aïda's 3rd visit: 東京!"
    >>> [text[start:end] for start, end in split_words(text)]
    ['Aïda', "'", 's', '3rd', 'visit', ':', '東', '京', '!']
    """
    words: list[tuple[int, int]] = []
    start = 0
    before = "space"
    for position, char in enumerate(text):
        kind = _kind(char)
        if kind == "mark" and before != "space":
            continue
        if kind == "mark":
            kind = "symbol" if unicodedata.category(char)[0] == "M" else "space"
        if before != "space" and not (kind == before == "letter"):
            words.append((start, position))
            before = "space"
        if before == "space":
            start = position
        before = kind
    if before != "space":
        words.append((start, len(text)))
    return tuple(words)


def _kind(char: str) -> str:
    """One of space, letter (joins its neighbours), mark (stays with the one before), symbol."""
    if char.isspace():
        return "space"
    if char.isascii():
        return "letter" if char.isalnum() or char == "_" else "symbol"
    category = unicodedata.category(char)
    if category[0] == "M" or category == "Cf":
        return "mark"
    if category[0] not in "LN":
        return "symbol"
    return "symbol" if unicodedata.name(char, "").startswith(_UNSPACED_SCRIPTS) else "letter"
