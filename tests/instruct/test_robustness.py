"""Every system: any output is read, in time that grows with its length, and rendering is quick."""

from __future__ import annotations

import random
import time

import pytest

from unmask.data.sentence import Sentence
from unmask.instruct.examples import (
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
    example_from_sentence,
)
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import STATUSES
from unmask.instruct.registry import SYSTEMS, load_system

NER = LabelSet(("LOC", "ORG", "PER"))
EVENTS = LabelSet(("attack", "die"), roles={"attack": ("place", "attacker")})
SENTENCE = Sentence("s", ("Bush", "attacked", "Iraq", "."), ("B-PER", "O", "B-LOC", "O"))
TAGGED = example_from_sentence(SENTENCE)
RICH = IEExample(
    "r",
    TAGGED.text,
    TAGGED.words,
    (
        *TAGGED.of(Entity),
        Relation("Bush", "attack", "Iraq"),
        Event("attack", "attacked", (Argument("place", "Iraq"), Argument("attacker", "Bush"))),
        Category("attack"),
    ),
)
PIECES = (
    *'[]{}(),:;"\\\n\t ',
    "'",
    "None",
    "person",
    "location",
    "organization",
    "attack",
    "place",
    "Bush",
    "Iraq",
    ": ",
    ", ",
    "; ",
    '["',
    '"]',
    "| --- |",
    "\u0000",
    "\ud83d",
    "é",
    "\uff0c",
    "\uff1a",
    "\\u00",
    "null",
    "1e999",
)
LONG = ("[", "(", '"', "\\", '\\"', ";", "a: b; ", "( a: b, ", '["a", ', '{"a": [', "person: x, ")
USES = ("NER", "ES", "ET", "RE", "EP", "EPR", "EE", "EET", "EEA")
VARIANTS = {
    "instructuie": [{"use": use, "mode": mode} for use in USES for mode in ("paper", "official")],
    "it": [{}, {"robust": True}],
    "uniner": [{}, {"mode": "official"}, {"variant": "all-in-one"}],
}


def asked():
    """(system, query) for every system, with every variant that reads answers in its own way."""
    for name in SYSTEMS:
        for settings in VARIANTS.get(name, [{}]):
            system = load_system(name, **settings)
            labels = NER if settings.get("use", "NER") in ("NER", "ES", "ET") else EVENTS
            for query in system.render(RICH, labels)[:1]:
                yield pytest.param(system, query, id=f"{name} {settings}")


ASKED = list(asked())


def outputs(number: int, seed: int):
    generator = random.Random(seed)
    for _ in range(number):
        yield "".join(generator.choices(PIECES, k=generator.randrange(24)))


@pytest.mark.parametrize(("system", "query"), ASKED)
def test_any_output_is_read(system, query):
    for output in outputs(300, seed=1):
        assert system.parse(output, query).status in STATUSES
        assert len(system.tags(TAGGED.words, [(query, output)], NER)) == 4
    system.evaluate([(query, output) for output in outputs(50, seed=2)])


@pytest.mark.slow
@pytest.mark.parametrize(("system", "query"), ASKED)
def test_a_hundred_thousand_outputs_are_read(system, query):
    for output in outputs(100_000, seed=3):
        assert system.parse(output, query).status in STATUSES


def seconds_to_parse(system, query, piece: str, length: int) -> float:
    text, best = (piece * length)[:length], float("inf")
    for _ in range(3):
        started = time.process_time()
        system.parse(text, query)
        best = min(best, time.process_time() - started)
        if best < 0.05:
            break
    return best


@pytest.mark.parametrize(("system", "query"), ASKED)
def test_time_to_read_grows_with_length_only(system, query):
    for piece in LONG:
        short, long = (seconds_to_parse(system, query, piece, n) for n in (20_000, 160_000))
        # Eight times the length: linear is 8, quadratic 64. Short times are noise.
        assert long < max(30 * short, 0.5), (piece, short, long)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_an_empty_model_says_is_counted_not_raised(name):
    system = load_system(name)
    for query in system.render(TAGGED, NER):
        assert system.parse("", query).items == ()


def rate(name: str, number: int) -> float:
    """Seconds to render so many sentences of sixteen words."""
    words = ("Bush", *(f"word{index}" for index in range(14)), "Iraq")
    tags = ("B-PER", *["O"] * 14, "B-LOC")
    examples = [example_from_sentence(Sentence(str(i), words, tags)) for i in range(number)]
    system = load_system(name)
    started = time.process_time()
    for _ in system.render_all(examples, NER, train=True):
        pass
    return time.process_time() - started


@pytest.mark.parametrize("name", SYSTEMS)
def test_sentences_are_rendered_quickly(name):
    # 100,000 in 60 s is 0.6 s for 1,000.
    assert min(rate(name, 1000) for _ in range(3)) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_hundred_thousand_sentences_are_rendered_within_a_minute(name):
    assert rate(name, 100_000) < 60
