"""From generated strings to words of the sentence: an entity is where its text stands.

The sentence is searched as its words joined by single spaces, and a match counts only when it
begins and ends at word borders. What is not found stays out, which leaves its words O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unmask.data.sentence import Span
from unmask.data.tags import tags_from_spans
from unmask.instruct.examples import Entity

NEXT, ALL = "next", "all"
"""NEXT: each mention takes the first free occurrence. ALL: a mention takes every occurrence."""


def ground(
    words: Sequence[str], entities: Iterable[Entity], occurrences: str = NEXT
) -> tuple[Span, ...]:
    """The stretches of words that entities name, in order, none overlapping.

    Longer mentions are placed first, so that "New York" does not lose its place to "York";
    among equals the order given decides.

    >>> ground(("John", "met", "John"), [Entity("John", "PER")])
    (Span(start=0, end=1, label='PER'),)
    >>> len(ground(("John", "met", "John"), [Entity("John", "PER")], ALL))
    2
    """
    if occurrences not in (NEXT, ALL):
        raise ValueError(f"occurrences must be {NEXT!r} or {ALL!r}, got {occurrences!r}")
    places = WordPlaces(words)
    taken = [False] * len(words)
    spans: list[Span] = []
    unique = list(entities) if occurrences == NEXT else list(dict.fromkeys(entities))
    for entity in sorted(unique, key=lambda one: -len(one.text)):
        for start, end in places.of(entity.text):
            if any(taken[start:end]):
                continue
            taken[start:end] = [True] * (end - start)
            spans.append(Span(start, end, entity.type))
            if occurrences == NEXT:
                break
    return tuple(sorted(spans))


def ground_tags(
    words: Sequence[str], entities: Iterable[Entity], occurrences: str = NEXT
) -> tuple[str, ...]:
    """IOB2 tags of what `ground` finds."""
    return tags_from_spans(ground(words, entities, occurrences), len(words))


class WordPlaces:
    """Finds strings in a sentence, at word borders only."""

    def __init__(self, words: Sequence[str]) -> None:
        self.text = " ".join(words)
        self.starts: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        position = 0
        for index, word in enumerate(words):
            self.starts[position] = index
            position += len(word)
            self.ends[position] = index + 1
            position += 1
        self.found: dict[str, list[tuple[int, int]]] = {}

    def of(self, text: str) -> list[tuple[int, int]]:
        """Every (start, end) in words where `text` stands, left to right."""
        text = " ".join(text.split())
        if text not in self.found:
            self.found[text] = list(self._search(text)) if text else []
        return self.found[text]

    def _search(self, text: str) -> Iterable[tuple[int, int]]:
        position = self.text.find(text)
        while position >= 0:
            start, end = self.starts.get(position), self.ends.get(position + len(text))
            if start is not None and end is not None:
                yield start, end
            position = self.text.find(text, position + 1)
