"""Broken answers and every way to read one: for the proof that no output of a model does harm.

Tests and `benchmarks/instruct.py` go through `every_parser`. A system that reads answers in a way
of its own adds its settings to `WAYS`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
)
from unmask.instruct.hum_answers import write
from unmask.instruct.hum_formats import COLUMNS, EMPTIES, STYLES
from unmask.instruct.hum_wordings import TASKS as HUM_TASKS
from unmask.instruct.instructuie_templates import TASKS as INSTRUCTUIE_TASKS
from unmask.instruct.labels import LabelSet
from unmask.instruct.prompts import Query
from unmask.instruct.registry import load_system
from unmask.instruct.seqgpt_tasks import TASKS as SEQGPT_TASKS
from unmask.instruct.system import MODES, System

EXAMPLE = IEExample(
    "e",
    "Bush attacked Iraq .",
    ("Bush", "attacked", "Iraq", "."),
    (
        Entity("Bush", "PER", 0, 1),
        Entity("Iraq", "LOC", 2, 3),
        Relation("Bush", "born in", "Iraq", "PER"),
        Event("attack", "attacked", (Argument("place", "Iraq"), Argument("attacker", "Bush"))),
        Category("politics"),
        Answer("Iraq", "Where?"),
        Answer("Bush", "Who?", ("Bush", "Blair")),
    ),
)
LABELS = LabelSet(
    ("LOC", "ORG", "PER", "born in", "attack", "politics"),
    roles={"attack": ("place", "attacker")},
)
"""Of everything that EXAMPLE holds."""

WAYS: dict[str, list[dict[str, Any]]] = {
    "it": [{}, {"robust": True}],
    "uniner": [{}, {"mode": "official"}, {"variant": "all-in-one"}],
    "instructuie": [{"use": use, "mode": mode} for use in INSTRUCTUIE_TASKS for mode in MODES],
    "seqgpt": [
        *({"use": use} for use in SEQGPT_TASKS),
        {"use": "NER", "grounded": True},
    ],
    "hum": [{"use": use, "mode": mode} for use in HUM_TASKS for mode in MODES],
}

PIECES = (
    *"{}[]()\"'\\:;,\n\t |-",
    *(": ", ", ", "; ", '["', '"]', '", "', '("', '("a":[', '":[subject]', "```json", "| --- |"),
    *("\uff1a", "\uff0c", "\u2028", "\x00", "\ud83d", "é", "\\u00", "1e999", "9" * 5000),
    *("None", "NAN", "null", "true", "[]", "{}", "Entity(", 'Triple(subject="', '"trigger"'),
    *("person", "location", "born in", "attack", "place", "Bush", "Iraq", '"arguments"', "answer"),
)
"""What answers are broken with."""

HARD = (
    *"{[(\"'\\:;,|",
    *('("', '\\"', '("a', '("a":[', '("a":[subject],', "a:", "a: b; ", "( a: b, ", "person: x, "),
    *('["a", ', '{"a": [', "| a ", "person: a | ", "None\n", "Entity(entity_type="),
)
"""What a reader that begins again at every place would take quadratic time for."""


@dataclass(frozen=True)
class Parser:
    """One way to read an answer, and a question whose answer is read so."""

    name: str
    system: System
    query: Query


def every_parser() -> Iterator[Parser]:
    """Every system with every variant, task and form that reads answers in its own way."""
    for name, ways in WAYS.items():
        for settings in ways:
            system = load_system(name, **settings)
            query = next(one for one in system.render(EXAMPLE, LABELS) if one.items)
            title = " ".join([name, *(str(value) for value in settings.values())])
            yield Parser(title, system, query)
            if name == "hum" and query.task in COLUMNS and system.mode == "paper":
                for number, style in enumerate(STYLES):
                    empty = EMPTIES[number % len(EMPTIES)]
                    yield Parser(f"{title} {style} {empty}", system, _in_form(query, style, empty))


def _in_form(query: Query, style: str, empty: str) -> Query:
    """The question with another form of answer."""
    answer = write(query.task, query.items, query.labels, {}, style, empty)
    segments = (*query.segments[:-1], replace(query.segments[-1], text=answer))
    return replace(query, about=f"{style} {empty}", segments=segments)


def broken_answer(gold: str, generator: random.Random) -> str:
    """The gold with a few pieces put in and letters taken out, or pieces only."""
    if generator.random() < 0.4:
        return "".join(generator.choices(PIECES, k=generator.randrange(40)))
    letters = list(gold)
    for _ in range(generator.randrange(1, 4)):
        place = generator.randrange(len(letters) + 1)
        if generator.random() < 0.5:
            letters.insert(place, generator.choice(PIECES))
        else:
            del letters[place : place + generator.randrange(1, 4)]
    return "".join(letters)


def hard_answer(piece: str, length: int) -> str:
    """The piece again and again."""
    return (piece * (length // len(piece) + 1))[:length]
