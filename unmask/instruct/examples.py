"""What a text says: entities, relations, events, categories and answers, whatever the system.

A model that answers in text gives strings, never positions. So two items are equal when their
strings are; positions ride along where the gold has them and are never compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, TypeVar

from unmask.data.sentence import Sentence
from unmask.data.tags import spans_from_tags


@dataclass(frozen=True, slots=True)
class Entity:
    """A typed mention; `start` and `end` (exclusive) count words, None when only generated."""

    text: str
    type: str
    start: int | None = field(default=None, compare=False)
    end: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Relation:
    """A triple; also an attribute of an entity, with the attribute's name as `type`."""

    head: str
    type: str
    tail: str
    head_type: str | None = field(default=None, compare=False)
    tail_type: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    """What plays a role in an event."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """An event with its trigger, None where a format has no trigger."""

    type: str
    trigger: str | None = None
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True)
class Category:
    """A label of the whole text: a topic, a sentiment, an intent."""

    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to a question about the text; empty when the text does not say.

    `choices` are what it is chosen from, where a question comes with such.
    """

    text: str
    question: str = ""
    choices: tuple[str, ...] = field(default=(), compare=False)


Item = Entity | Relation | Event | Category | Answer
ItemKind = TypeVar("ItemKind", Entity, Relation, Event, Category, Answer)

KINDS: dict[str, type] = {
    "entity": Entity,
    "relation": Relation,
    "event": Event,
    "category": Category,
    "answer": Answer,
}


@dataclass(frozen=True, slots=True)
class IEExample:
    """A text with everything that is annotated in it.

    `text` is the words joined by single spaces where there are words. Item types are the
    corpus's raw labels ("PER"); systems translate them with a `LabelSet`.
    """

    id: str
    text: str
    words: tuple[str, ...] | None = None
    items: tuple[Item, ...] = ()
    dataset: str = ""
    domain: str = ""
    lang: str = "en"

    def of(self, kind: type[ItemKind]) -> tuple[ItemKind, ...]:
        """The items of one kind, in order: `example.of(Entity)`."""
        return tuple(item for item in self.items if isinstance(item, kind))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            **{name: getattr(self, name) for name in ("id", "text", "dataset", "domain", "lang")},
            "words": None if self.words is None else list(self.words),
            "items": [item_to_dict(item) for item in self.items],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> IEExample:
        """The inverse of `to_dict`."""
        words = values.get("words")
        items = tuple(map(item_from_dict, values.get("items", ())))
        return cls(**{**values, "words": None if words is None else tuple(words), "items": items})


def at_most_per_dataset(
    examples: Sequence[IEExample], number: int, generator_of: Callable[[str], Random] | None
) -> list[IEExample]:
    """At most so many examples of each data set, in their order.

    They are drawn with the generator that `generator_of` gives for the data set; without it the
    first are taken.
    """
    by_dataset: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        by_dataset.setdefault(example.dataset, []).append(index)
    chosen: list[int] = []
    for dataset, indices in by_dataset.items():
        if generator_of is None or len(indices) <= number:
            chosen += indices[:number]
        else:
            chosen += generator_of(dataset).sample(indices, number)
    return [examples[index] for index in sorted(chosen)]


def example_from_sentence(sentence: Sentence, dataset: str = "") -> IEExample:
    """A tagged sentence as an example whose entities keep their word positions.

    >>> sentence = Sentence("s1", ("Bush", "spoke"), ("B-PER", "O"))
    >>> example_from_sentence(sentence).items
    (Entity(text='Bush', type='PER', start=0, end=1),)
    """
    entities = tuple(
        Entity(" ".join(sentence.words[s.start : s.end]), s.label, s.start, s.end)
        for s in spans_from_tags(sentence.tags)
    )
    return IEExample(sentence.id, " ".join(sentence.words), sentence.words, entities, dataset)


def item_to_dict(item: Item) -> dict[str, Any]:
    """An item as JSON values, with its `kind` and without empty fields."""
    kind = next(name for name, cls in KINDS.items() if cls is type(item))
    values = {name: value for name, value in asdict(item).items() if value is not None}
    return {"kind": kind, **values}


def item_from_dict(values: dict[str, Any]) -> Item:
    """The inverse of `item_to_dict`.

    Raises:
        ValueError: for a kind that is not known.
    """
    fields = dict(values)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of item {kind!r}; known are {', '.join(KINDS)}")
    if kind == "event":
        fields["arguments"] = tuple(Argument(**one) for one in fields.get("arguments", ()))
    if kind == "answer":
        fields["choices"] = tuple(fields.get("choices", ()))
    return KINDS[kind](**fields)
