"""What Hum asks about one text: each task's questions with the gold, under natural names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Item,
    Relation,
)
from unmask.instruct.hum_answers import PARTS
from unmask.instruct.hum_schema import Shown
from unmask.instruct.labels import LabelSet

OPEN = ""
"""The type of a statement of open extraction, whose parts are the arguments of an event."""

SPLITS = {"NER": 6, "RE": 4, "SPO": 4, "EE": 4, "EET": 4, "EEA": 4, "KGE": 1}
"""Labels of one instruction; tasks that are not here show all."""


@dataclass(frozen=True)
class Ask:
    """One question: the labels that may be asked, in order, and the gold items among them."""

    task: str
    labels: tuple[Shown, ...]
    items: tuple[Item, ...]
    question: str = ""
    choices: tuple[str, ...] = ()
    present: frozenset[str] = field(default=frozenset())


def asks(example: IEExample, labels: LabelSet, task: str) -> Iterator[Ask]:
    """The questions of one task; none where the text has nothing to ask about."""
    if task in ("MRC", "IG"):
        questions = dict.fromkeys((one.question, one.choices) for one in example.of(Answer))
        for question, choices in questions:
            texts = [one.text for one in example.of(Answer) if one.question == question]
            said = tuple(Answer(text, question) for text in texts[:1] if text)
            if bool(choices) <= (task == "MRC"):
                yield Ask(task, (), said, question, choices)
        return
    items = tuple(_gold(example, labels, task))
    if task == "OpenIE":
        yield Ask(task, (), items)
        return
    present = frozenset(label_of(item) for item in items)
    named = _present_only(labels, present) if task == "EEA" else _all(labels, present)
    roles = _roles(labels, items)
    shown = tuple(
        Shown(name, name, roles=roles.get(name, ()), ends=_ends(example, labels, name))
        for name in named
    )
    if shown:
        ordered = tuple(_in_role_order(item, roles) for item in items)
        yield Ask(task, shown, ordered, present=present)


def label_of(item: Item) -> str:
    """The label in the schema that an item is answered under."""
    if isinstance(item, Category):
        return item.name
    if isinstance(item, Answer):
        return ""
    if isinstance(item, Relation) and item.head_type is not None:
        return item.head_type  # an attribute stands under the type of its entity
    return item.type


def renamed(item: Item, names: Mapping[str, str]) -> Item:
    """The item with its label as it is shown."""
    name = names.get(label_of(item), label_of(item))
    if isinstance(item, Category):
        return Category(name)
    if isinstance(item, Answer):
        return item
    if isinstance(item, Relation) and item.head_type is not None:
        return replace(item, head_type=name)
    return replace(item, type=name)


def batches(labels: Sequence[Shown], size: int) -> list[tuple[Shown, ...]]:
    """Batches of `size`; a rest smaller than half of it joins the last one. 0 is no limit."""
    if not size or len(labels) <= size:
        return [tuple(labels)]
    starts = list(range(0, len(labels), size))
    if len(labels) - starts[-1] < size // 2:
        starts.pop()
    ends = [*starts[1:], len(labels)]
    return [tuple(labels[a:b]) for a, b in zip(starts, ends, strict=True)]


def _gold(example: IEExample, labels: LabelSet, task: str) -> Iterable[Item]:
    natural = labels.to_natural
    if task == "NER":
        return [Entity(one.text, natural(one.type)) for one in example.of(Entity)]
    if task in ("RE", "SPO"):
        return [Relation(one.head, natural(one.type), one.tail) for one in example.of(Relation)]
    if task == "TC":
        return [Category(natural(one.name)) for one in example.of(Category)]
    if task == "KGE":
        return _graph(example, labels)
    if task == "OpenIE":
        return [*_open_events(example), *_open_relations(example)]
    events = [replace(one, type=natural(one.type)) for one in example.of(Event)]
    if task == "EET":
        # A trigger of several events of one type is written once.
        marked = (Event(one.type, one.trigger) for one in events if one.trigger)
        return list(dict.fromkeys(marked))
    return [replace(one, trigger=None) for one in events] if task == "EEA" else events


def _graph(example: IEExample, labels: LabelSet) -> list[Item]:
    """Entities, each once, and their attributes: relations that name the type of their head."""
    found = [one for one in example.of(Relation) if one.head_type is not None]
    entities = [Entity(one.text, labels.to_natural(one.type)) for one in example.of(Entity)]
    entities += [Entity(one.head, labels.to_natural(one.head_type or "")) for one in found]
    attributes = [
        Relation(one.head, one.type, one.tail, labels.to_natural(one.head_type or ""))
        for one in found
    ]
    return [*dict.fromkeys(entities), *attributes]


def _open_events(example: IEExample) -> list[Event]:
    return [one for one in example.of(Event) if one.type == OPEN]


def _open_relations(example: IEExample) -> list[Event]:
    return [
        Event(OPEN, None, tuple(map(Argument, PARTS, (one.head, one.type, one.tail))))
        for one in example.of(Relation)
    ]


def _all(labels: LabelSet, present: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*labels.natural_names, *sorted(present)]))


def _present_only(labels: LabelSet, present: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in _all(labels, present) if name in present)


def _roles(labels: LabelSet, items: Iterable[Item]) -> dict[str, tuple[str, ...]]:
    """Roles or attributes by natural name, those of the label set first."""
    roles = {labels.to_natural(raw): dict.fromkeys(many) for raw, many in labels.roles.items()}
    for item in items:
        if isinstance(item, Event):
            roles.setdefault(item.type, {}).update(dict.fromkeys(a.role for a in item.arguments))
        elif isinstance(item, Relation) and item.head_type is not None:
            roles.setdefault(item.head_type, {})[item.type] = None
    return {name: tuple(many) for name, many in roles.items()}


def _in_role_order(item: Item, roles: Mapping[str, Sequence[str]]) -> Item:
    """Arguments as they will be written: by role, several of one role in their order."""
    if not isinstance(item, Event) or item.type == OPEN:
        return item
    order = {role: index for index, role in enumerate(roles.get(item.type, ()))}
    return replace(item, arguments=tuple(sorted(item.arguments, key=lambda a: order[a.role])))


def _ends(example: IEExample, labels: LabelSet, name: str) -> tuple[str, str]:
    """Types of subject and object: the two roles of the relation, or what the text has."""
    for raw, many in labels.roles.items():
        if labels.to_natural(raw) == name and len(many) == 2:
            return many[0], many[1]
    for one in example.of(Relation):
        if labels.to_natural(one.type) == name:
            ends = (one.head_type, one.tail_type)
            return tuple(labels.to_natural(end) if end else "" for end in ends)  # type: ignore
    return "", ""
