from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace

import pytest

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
)
from unmask.instruct.hum import Hum
from unmask.instruct.hum_formats import COLUMNS, EMPTIES, STYLES
from unmask.instruct.hum_wordings import TASKS
from unmask.instruct.labels import LabelSet
from unmask.instruct.prompts import Query
from unmask.instruct.seqgpt import SeqGPT
from unmask.instruct.seqgpt_tasks import TASKS as SEQGPT_TASKS
from unmask.instruct.system import System

EXAMPLE = IEExample(
    "e",
    "Bush attacked Iraq",
    items=(
        Entity("Bush", "PER"),
        Relation("Bush", "born in", "Iraq", "PER"),
        Event("attack", "attacked", (Argument("place", "Iraq"),)),
        Category("politics"),
        Answer("Iraq", "Where?"),
        Answer("Bush", "Who?", ("Bush", "Blair")),
    ),
)
LABELS = LabelSet(("PER", "born in", "attack", "politics"), roles={"attack": ("place",)})
PIECES = (
    *"{}[]()\"'\\:,\n\t |",
    *("\uff1a", "\uff0c", "\u2028", "\x00", "\ud800", "None", "NAN", "null", "1e999", "9" * 5000),
    *("person", "born in", "attack", "Entity(", 'Triple(subject="', '"trigger"', '"arguments"'),
    *("```json", "true", "[]", "{}", "Bush", "type", "answer", '("', '":[subject]'),
)


def asked() -> list[tuple[System, Query]]:
    hum, seqgpt = Hum(use=",".join(TASKS)), SeqGPT(use=",".join(SEQGPT_TASKS))
    queries: list[tuple[System, Query]] = []
    for query in hum.render(EXAMPLE, LABELS):
        queries += [(hum, query), (replace(hum, mode="official"), query)]
        if query.task in COLUMNS:
            forms = [f"{style} {empty}" for style in STYLES for empty in EMPTIES]
            queries += [(hum, replace(query, about=form)) for form in forms]
    for query in seqgpt.render(EXAMPLE, LABELS):
        queries += [(seqgpt, query), (replace(seqgpt, grounded=True), query)]
    return queries


def broken(answer: str, generator: random.Random) -> str:
    """An answer with a few pieces put in and letters taken out, or pieces only."""
    if generator.random() < 0.4:
        return "".join(generator.choices(PIECES, k=generator.randrange(40)))
    letters = list(answer)
    for _ in range(generator.randrange(1, 4)):
        place = generator.randrange(len(letters) + 1)
        if generator.random() < 0.5:
            letters.insert(place, generator.choice(PIECES))
        else:
            del letters[place : place + generator.randrange(1, 4)]
    return "".join(letters)


def every_answer_has_a_status(number: int) -> None:
    generator = random.Random(number)
    queries = asked()
    statuses: Counter[str] = Counter()
    for _ in range(number):
        system, query = generator.choice(queries)
        statuses[system.parse(broken(query.answer, generator), query).status] += 1
    assert min(statuses[name] for name in ("ok", "empty", "partial", "malformed")) > number / 100


def test_broken_answers_have_a_status():
    every_answer_has_a_status(4000)


@pytest.mark.slow
def test_a_hundred_thousand_broken_answers_have_a_status():
    every_answer_has_a_status(100_000)


HARD = (
    "{",
    "[",
    "(",
    '"',
    "'",
    '("',
    '("a',
    '("a":[',
    '("a":[subject],',
    "a:",
    ":",
    ",",
    "|",
    "\\",
)


def seconds(system: System, query: Query, text: str) -> float:
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        system.parse(text, query)
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize("piece", HARD)
def test_reading_takes_time_that_grows_with_the_length_only(piece):
    tasks: set[tuple[str, str]] = set()
    for system, query in asked():
        if (system.name, query.task) in tasks or system.mode == "official":
            continue
        tasks.add((system.name, query.task))
        short, long = (piece * (size // len(piece)) for size in (4_000, 32_000))
        # Eight times the text: linear is 8, quadratic 64; the floor is for a busy machine.
        limit = 24 * seconds(system, query, short) + 0.02
        assert seconds(system, query, long) < limit, (system.name, query.task)
