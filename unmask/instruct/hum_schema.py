"""What one of Hum's instructions shows of its labels: names, descriptions, rules, roles.

The shapes are those of the paper's appendix; a plain list becomes one of objects as soon as a
label has more to show than its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LABEL_KEYS = {"NER": "entity_type", "RE": "relation", "SPO": "predicate", "KGE": "entity_type"}


@dataclass(frozen=True)
class Shown:
    """One label as an instruction shows it.

    `name` is the natural name, `shown` what stands in its place: itself, a variant or a
    made-up name. `roles` are arguments of an event or attributes of an entity,
    `role_descriptions` what is said about some of them; `ends` are the types of a triple's
    subject and object.
    """

    name: str
    shown: str
    description: str = ""
    rule: str = ""
    roles: tuple[str, ...] = ()
    role_descriptions: tuple[tuple[str, str], ...] = ()
    ends: tuple[str, str] = ("", "")


def schema(task: str, labels: Sequence[Shown]) -> Any:
    """The value of `schema`.

    >>> schema("NER", [Shown("person", "person")])
    ['person']
    >>> schema("NER", [Shown("person", "label3", "A human being.")])
    [{'entity_type': 'label3', 'description': 'A human being.'}]
    """
    guided = any(one.description or one.rule or one.role_descriptions for one in labels)
    if task == "SPO":
        return [_triple(one) for one in labels]
    if task in ("EE", "KGE"):
        return [_event(one) if task == "EE" else _entity(one) for one in labels]
    if task == "EEA":
        return _guided_arguments(labels) if guided else [_arguments(one) for one in labels]
    if not guided:
        return [one.shown for one in labels]
    if task in ("EET", "TC"):
        return {one.shown: _said(one) for one in labels}
    return [{LABEL_KEYS[task]: one.shown, **_guides(one)} for one in labels]


def _guides(one: Shown) -> dict[str, str]:
    values = {"description": one.description, "rule": one.rule}
    return {key: text for key, text in values.items() if text}


def _said(one: Shown) -> str:
    return " ".join(text for text in (one.description, one.rule) if text)


def _triple(one: Shown) -> dict[str, str]:
    subject_type, object_type = one.ends
    triple = {"subject_type": subject_type, "predicate": one.shown, "object_type": object_type}
    return {**triple, **_guides(one)}


def _event(one: Shown) -> dict[str, Any]:
    said = dict(one.role_descriptions)
    arguments = [
        {"argument": role, "description": said[role]} if role in said else role
        for role in one.roles
    ]
    return {"event_type": one.shown, "trigger": True, "arguments": arguments, **_guides(one)}


def _entity(one: Shown) -> dict[str, Any]:
    return {"entity_type": one.shown, "attributes": list(one.roles), **_guides(one)}


def _arguments(one: Shown) -> dict[str, Any]:
    return {"event_type": one.shown, "arguments": list(one.roles)}


def _guided_arguments(labels: Sequence[Shown]) -> dict[str, Any]:
    return {
        one.shown: {
            one.shown: _said(one),
            "arguments": [
                {"type": role, "description": dict(one.role_descriptions).get(role, "")}
                for role in one.roles
            ],
        }
        for one in labels
    }
