"""Hum's answers to every task, and how they are read back.

NER, RE, SPO and EET answer rows, in one of the forms of `hum_formats`; the others have one form
each. Readers take the first bracket of the right kind, whatever stands around it; mode "official"
takes the whole answer or nothing, as its forerunner's evaluator does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unmask.instruct.examples import Answer, Argument, Category, Entity, Event, Item, Relation
from unmask.instruct.hum_formats import COLUMNS, Row, load_json, read_rows, write_rows

NOT_MENTIONED = "Not mentioned"
NAN = "NAN"
PARTS = ("subject", "predicate", "object", "time", "location")

_PART = re.compile(r'\s*("(?:[^"\\]|\\.)*+")\s*:\s*\[\s*(\w{1,20})\s*\]\s*', re.DOTALL)

Read = tuple[list[Item] | None, list[str]]
"""Items, None when nothing could be read; and what was wrong."""


def row_of(item: Item) -> Row:
    """An entity, relation or trigger as a label and cells."""
    if isinstance(item, Entity):
        return item.type, item.text
    if isinstance(item, Relation):
        return item.type, item.head, item.tail
    assert isinstance(item, Event)
    return item.type, item.trigger or ""


def item_of(task: str, row: Row) -> Item:
    """The inverse of `row_of`."""
    if task == "NER":
        return Entity(row[1], row[0])
    return Event(row[0], row[1]) if task == "EET" else Relation(row[1], row[0], row[2])


def write(
    task: str,
    items: Sequence[Item],
    labels: Sequence[str],
    roles: Mapping[str, Sequence[str]],
    style: str = "json",
    empty: str = "[]",
) -> str:
    """The answer that says `items`, with every label or as the task leaves them out."""
    if task in COLUMNS:
        return write_rows(task, [row_of(item) for item in items], labels, style, empty)
    if task == "OpenIE":
        return "\n".join(_statement(item) for item in items if isinstance(item, Event))
    if task == "IG":
        return "".join(item.text for item in items if isinstance(item, Answer))
    if task == "MRC":
        answer = next((item.text for item in items if isinstance(item, Answer)), NOT_MENTIONED)
        return answer if labels else _json({"answer": answer})
    if task == "TC":
        names = [item.name for item in items if isinstance(item, Category)]
        return _json({"type": names[0] if len(names) == 1 else names})
    if task == "KGE":
        return _json(_graph(items))
    return _json(_events(task, items, labels, roles))


def read(
    task: str,
    output: str,
    labels: Sequence[str],
    roles: Sequence[str],
    about: str,
    style: str = "json",
    empty: str = "[]",
) -> Read:
    """Items of an answer. Total, in linear time.

    `about` is the question of MRC and IG.
    """
    if task in COLUMNS:
        rows, errors = read_rows(task, output, labels, style, empty)
        return None if rows is None else [item_of(task, row) for row in rows], errors
    if task == "OpenIE":
        return _read_statements(output)
    if task == "IG":
        return [Answer(output, about)] if output else [], []
    if task == "MRC" and labels:
        return _read_choice(output, labels, about)
    value = load_json(output, "{")
    if not isinstance(value, dict):
        return None, [f"no JSON object: {output.strip()[:60]}"]
    if task == "MRC":
        return _read_answer(value, about)
    if task == "TC":
        return _read_category(value, labels)
    if task == "KGE":
        return _read_graph(value, labels)
    return _read_events(task, value, labels, set(roles))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _statement(event: Event) -> str:
    parts = (f"{_json(one.text)}:[{one.role}]" for one in event.arguments)
    return f"({', '.join(parts)})"


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """One value as itself, several as a list."""
    values: dict[str, list[str]] = {}
    for key, text in pairs:
        values.setdefault(key, []).append(text)
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def _graph(items: Sequence[Item]) -> dict[str, Any]:
    graph: dict[str, Any] = {}
    for item in items:
        if isinstance(item, Entity):
            graph.setdefault(item.type, {}).setdefault(item.text, [])
        elif isinstance(item, Relation):
            entities = graph.setdefault(item.head_type or "", {})
            entities.setdefault(item.head, []).append((item.type, item.tail))
    return {
        kind: {name: _grouped(pairs) for name, pairs in entities.items()}
        for kind, entities in graph.items()
    }


def _events(
    task: str, items: Sequence[Item], labels: Sequence[str], roles: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    found: dict[str, list[Any]] = {label: [] for label in labels}
    for event in items:
        if isinstance(event, Event):
            blank = dict.fromkeys(roles.get(event.type, ()), NAN)
            arguments = {**blank, **_grouped((one.role, one.text) for one in event.arguments)}
            whole = {"trigger": event.trigger or NAN, "arguments": arguments}
            found.setdefault(event.type, []).append(arguments if task == "EEA" else whole)
    return {label: events or ({} if task == "EEA" else []) for label, events in found.items()}


def _read_statements(output: str) -> Read:
    items: list[Item] = []
    errors: list[str] = []
    position = output.find("(")
    while position >= 0:
        start, parts = position, []
        position += 1
        while found := _PART.match(output, position):
            parts.append(found)
            position = found.end()
            if position >= len(output) or output[position] != ",":
                break
            position += 1
        arguments = [Argument(part[2], text) for part in parts if (text := _string(part[1]))]
        if arguments and output[position : position + 1] == ")":
            items.append(Event("", None, tuple(arguments)))
        else:
            errors.append(f"a statement that cannot be read: {output[start : start + 60]}")
        position = output.find("(", position)
    if not items and output.strip():
        return None, [f"no statement: {output.strip()[:60]}"]
    return items, errors


def _string(literal: str) -> str:
    try:
        return str(json.loads(literal, strict=False))
    except ValueError:
        return ""


def _read_choice(output: str, choices: Sequence[str], question: str) -> Read:
    known = {choice.strip(): choice for choice in choices}
    text = output.strip()
    for answer in (text, text.strip("\"'.").strip()):
        if answer in known:
            return [Answer(known[answer], question)], []
    if text == NOT_MENTIONED:
        return [], []
    return None, [f"not among the choices: {text[:60]}"]


def _read_answer(value: Mapping[Any, Any], question: str) -> Read:
    answer = value.get("answer")
    if not isinstance(answer, str) or not answer:
        return None, [f"no answer: {str(value)[:60]}"]
    return ([], []) if answer == NOT_MENTIONED else ([Answer(answer, question)], [])


def _read_category(value: Mapping[Any, Any], labels: Sequence[str]) -> Read:
    # The published example writes its key with a space at the end.
    found = next((one for key, one in value.items() if str(key).strip() == "type"), None)
    names = found if isinstance(found, list) else [found]
    known = [name for name in names if isinstance(name, str) and name in labels]
    errors = [f"unknown label: {str(name)[:60]}" for name in names if name not in known]
    if errors and not known:
        return None, errors
    return [Category(name) for name in known], errors


def _values(value: Any) -> list[str] | None:
    """The strings of a value: none of NAN, one, or those of a list; None when it is neither."""
    if value in (NAN, "", []):
        return []
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return None


def _read_graph(value: Mapping[Any, Any], labels: Sequence[str]) -> Read:
    items: list[Item] = []
    errors: list[str] = []
    for kind, entities in value.items():
        if kind not in labels or not isinstance(entities, dict):
            errors.append(f"unknown type or no object: {str(kind)[:60]}")
            continue
        for name, attributes in entities.items():
            if not isinstance(attributes, dict) or not isinstance(name, str):
                errors.append(f"no object of attributes: {str(attributes)[:60]}")
                continue
            items.append(Entity(name, kind))
            for key, one in attributes.items():
                texts = _values(one)
                if texts is None or not isinstance(key, str):
                    errors.append(f"a value of another kind: {str(one)[:60]}")
                else:
                    items += [Relation(name, key, text, kind) for text in texts]
    return items, errors


def _read_events(
    task: str, value: Mapping[Any, Any], labels: Sequence[str], roles: set[str]
) -> Read:
    items: list[Item] = []
    errors: list[str] = []
    for kind, events in value.items():
        if kind not in labels:
            errors.append(f"unknown label: {str(kind)[:60]}")
        elif isinstance(events, list):
            for event in events:
                read_event = _read_event(task, kind, event, roles, errors)
                items += [read_event] if read_event else []
        elif events not in ({}, NAN):
            errors.append(f"no list of events: {str(events)[:60]}")
    return items, errors


def _read_event(
    task: str, kind: str, event: Any, roles: set[str], errors: list[str]
) -> Event | None:
    arguments = event if task == "EEA" else event.get("arguments") if isinstance(event, dict) else 0
    if not isinstance(event, dict) or not isinstance(arguments, dict):
        errors.append(f"no object of an event: {str(event)[:60]}")
        return None
    trigger = None if task == "EEA" else event.get("trigger")
    if trigger is not None and not isinstance(trigger, str):
        errors.append(f"a trigger of another kind: {str(trigger)[:60]}")
        return None
    found: list[Argument] = []
    for role, one in arguments.items():
        texts = _values(one)
        if texts is None or role not in roles:
            errors.append(f"unknown role or a value of another kind: {str(role)[:60]}")
        else:
            found += [Argument(role, text) for text in texts]
    return Event(kind, None if trigger in (NAN, "") else trigger, tuple(found))
