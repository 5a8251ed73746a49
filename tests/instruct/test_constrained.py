from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.instruct.constrained import completed
from unmask.instruct.examples import Argument, Category, Entity, Event, IEExample, Relation
from unmask.instruct.fuzzing import every_parser
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import load_system
from unmask.instruct.span_grammar import mentions_of
from unmask.instruct.workspace import describe

LABELS = LabelSet(("LOC", "PER"))
EXAMPLE = IEExample(
    "e",
    "Vana (went) to Kané",
    ("Vana", "(went)", "to", "Kané"),
    (
        Entity("Vana", "PER", 0, 1),
        Entity("Kané", "LOC", 3, 4),
        Relation("Vana", "PER", "Kané"),
        Category("LOC"),
    ),
)
SYSTEMS = [
    load_system("it"),
    load_system("instructuie"),
    load_system("uniner"),
    load_system("uniner", variant="all-in-one"),
    load_system("hum"),
    load_system("hum", use="RE"),
    load_system("hum", use="TC"),
    load_system("seqgpt"),
]


GRAMMARS = [
    (parser, grammar)
    for parser in every_parser()
    if (grammar := parser.system.grammar(parser.query)) is not None
]


def test_every_answer_but_free_text_has_a_grammar():
    without = {parser.name for parser in every_parser()} - {one.name for one, _ in GRAMMARS}
    assert without == {"hum IG paper", "hum IG official"}


@pytest.mark.parametrize("system", SYSTEMS, ids=describe)
def test_gold_answers_are_well_formed(system):
    for query in system.render(EXAMPLE, LABELS):
        grammar = system.grammar(query)
        assert regex.fullmatch(grammar.pattern, query.answer)


@pytest.mark.parametrize(("parser", "grammar"), GRAMMARS, ids=[one.name for one, _ in GRAMMARS])
def test_gold_of_every_task_and_form_is_well_formed_and_so_is_what_closes_a_part_of_it(
    parser, grammar
):
    gold = parser.query.answer
    assert regex.fullmatch(grammar.pattern, gold)
    assert regex.fullmatch(grammar.pattern, gold[: len(gold) // 2], partial=True)
    for length in range(len(gold)):
        text = completed(gold[:length], grammar)
        assert regex.fullmatch(grammar.pattern, text), text
        assert parser.system.parse(text, parser.query).status in ("ok", "empty"), text


@settings(deadline=None, max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("system", SYSTEMS, ids=describe)
def test_what_is_cut_off_is_closed_so_that_it_parses(system, data):
    query = data.draw(st.sampled_from(system.render(EXAMPLE, LABELS)))
    cut = query.answer[: data.draw(st.integers(0, len(query.answer)))]
    grammar = system.grammar(query)
    text = completed(cut, grammar)
    assert regex.fullmatch(grammar.pattern, text)
    assert system.parse(text, query).status in ("ok", "empty")


def test_two_events_with_and_without_arguments_are_well_formed():
    for mode in ("paper", "official"):
        system = load_system("instructuie", use="EE", mode=mode)
        events = (
            Event("PER", "went", (Argument("place", "Kané"), Argument("who", "Vana"))),
            Event("LOC", "to", ()),
        )
        labels = LabelSet(("LOC", "PER"), roles={"PER": ("place", "who")})
        words = ("Vana", "went", "to", "Kané")
        (query,) = system.render(IEExample("e", " ".join(words), words, events), labels)
        grammar = system.grammar(query)
        assert grammar is not None
        assert regex.fullmatch(grammar.pattern, query.answer), query.answer


@pytest.mark.parametrize("name", ["it", "instructuie"])
def test_mentions_that_are_not_in_the_sentence_are_not_well_formed(name):
    system = load_system(name)
    (query,) = system.render(EXAMPLE, LABELS)
    grammar = system.grammar(query)
    assert grammar is not None
    written = "{text}:person" if name == "it" else " person: {text}"
    for text, good in (("Vana (went)", True), ("went", False), ("Kané Vana", False), ("x", False)):
        assert bool(regex.fullmatch(grammar.pattern, written.format(text=text))) == good, text


def test_a_mention_of_a_long_sentence_has_its_longest_length():
    words = tuple(f"w{index}" for index in range(60))
    pattern = mentions_of(words, ";", longest=3)
    assert regex.fullmatch(pattern, "w57 w58 w59")
    assert not regex.fullmatch(pattern, "w10 w11 w12 w13")
    assert mentions_of((";", "a;b"), ";") == ""
