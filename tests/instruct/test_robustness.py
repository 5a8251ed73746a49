"""Every system: any output is read, in time that grows with its length, and rendering is quick."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest

from unmask.data.sentence import Sentence
from unmask.instruct.examples import example_from_sentence
from unmask.instruct.fuzzing import (
    EXAMPLE,
    HARD,
    LABELS,
    WAYS,
    Parser,
    broken_answer,
    every_parser,
    hard_answer,
)
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import STATUSES
from unmask.instruct.registry import SYSTEMS, load_system

PARSERS = list(every_parser())
NER = LabelSet(("LOC", "ORG", "PER"))

parsers = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)


def answers(parser: Parser, number: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    return [broken_answer(parser.query.answer, generator) for _ in range(number)]


def test_no_system_is_left_out():
    assert set(WAYS) == set(SYSTEMS)
    assert len({parser.name for parser in PARSERS}) == len(PARSERS)


@parsers
def test_any_output_is_read_and_scored(parser):
    system, query = parser.system, parser.query
    found = answers(parser, 150, seed=1)
    for output in found:
        assert system.parse(output, query).status in STATUSES
        assert len(system.tags(EXAMPLE.words, [(query, output)], LABELS)) == 4
    system.evaluate([(query, output) for output in found[:50]])


def test_broken_answers_are_broken_in_many_ways():
    for name in WAYS:
        statuses = Counter(
            parser.system.parse(output, parser.query).status
            for parser in PARSERS
            if parser.system.name == name
            for output in answers(parser, 100, seed=2)
        )
        assert min(statuses[status] for status in ("ok", "partial", "malformed")) > 10, name


@pytest.mark.slow
@parsers
def test_a_hundred_thousand_outputs_are_read(parser):
    for output in answers(parser, 100_000, seed=3):
        assert parser.system.parse(output, parser.query).status in STATUSES


def seconds_to_parse(parser: Parser, text: str) -> float:
    started = time.process_time()
    parser.system.parse(text, parser.query)
    return time.process_time() - started


@parsers
def test_time_to_read_grows_with_length_only(parser):
    for piece in HARD:
        short, long = (hard_answer(piece, length) for length in (4_000, 32_000))
        # Eight times the length: linear is 8, quadratic 64; the floor is for a busy machine.
        for attempt in range(4):
            limit = 24 * seconds_to_parse(parser, short) + 0.02
            if seconds_to_parse(parser, long) < limit:
                break
            assert attempt < 3, piece


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_an_empty_model_says_is_counted_not_raised(name):
    system = load_system(name)
    for query in system.render(EXAMPLE, NER):
        assert system.parse("", query).items == ()


def rate(name: str, number: int) -> float:
    """Seconds to render so many sentences of sixteen words."""
    words = ("Bush", *(f"word{index}" for index in range(14)), "Iraq")
    tags = ("B-PER", *["O"] * 14, "B-LOC")
    examples = [example_from_sentence(Sentence(str(i), words, tags)) for i in range(number)]
    started = time.process_time()
    system = load_system(name).prepared(examples, NER)
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
