from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.sentence import Sentence, Span
from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Relation,
    example_from_sentence,
    item_from_dict,
    item_to_dict,
)
from unmask.instruct.grounding import ALL, ground, ground_tags
from unmask.instruct.labels import LabelSet, naturalise, read_names
from unmask.instruct.metrics import MicroF1, mean_over_datasets
from unmask.instruct.parsing import ParseCounts, balanced, load_literal, malformed, parsed
from unmask.instruct.prompts import Query, Segment
from unmask.instruct.registry import load_system

ITEMS = (
    Entity("Bush", "PER", 0, 1),
    Relation("Bush", "born in", "Texas", "PER"),
    Event("attack", "attacked", (Argument("place", "Iraq"), Argument("attacker", "Bush"))),
    Event("die"),
    Category("politics"),
    Answer("in 2003", "When?"),
    Answer("2003", "When?", ("2003", "2004")),
)


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_survives_json(item):
    back = item_from_dict(json.loads(json.dumps(item_to_dict(item))))
    assert repr(back) == repr(item)


def test_an_unknown_kind_of_item_is_named():
    with pytest.raises(ValueError, match="unknown kind of item 'planet'; known are entity"):
        item_from_dict({"kind": "planet"})


def test_examples_and_queries_survive_json():
    example = IEExample("a", "Bush", ("Bush",), ITEMS, "ace", "news", "en")
    assert IEExample.from_dict(json.loads(json.dumps(example.to_dict()))) == example
    query = Query("a#0", "a", "ner", "Bush", ("person",), (Segment("x"), Segment("y", True, True)))
    assert Query.from_dict(json.loads(json.dumps(query.to_dict()))) == query


def test_positions_are_not_compared():
    assert Entity("a", "b", 0, 1) == Entity("a", "b")


def test_a_sentence_becomes_its_entities():
    sentence = Sentence("s", ("New", "York", "won"), ("B-LOC", "I-LOC", "O"))
    assert repr(example_from_sentence(sentence).of(Entity)) == repr(
        (Entity("New York", "LOC", 0, 2),)
    )


def test_labels_translate_there_and_back_by_rule_and_by_override():
    labels = LabelSet(("PER", "creative-work", "X1"), {"X1": "gadget"})
    assert labels.natural_names == ("person", "creative work", "gadget")
    assert [labels.to_raw(name) for name in ("Person", "gadget", "planet")] == ["PER", "X1", None]


def test_labels_named_twice_are_refused():
    with pytest.raises(ValueError, match="labels are named twice"):
        LabelSet(("PER", "PER"))


@given(st.text())
def test_a_natural_name_is_never_empty(name: str):
    assert naturalise(name) or not name


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ('["a"]', "must hold one JSON object"), ('{"a": 1}', "must hold one")],
)
def test_a_bad_file_of_names_is_named(tmp_path, content, message):
    path = tmp_path / "names.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"names\.json.* {message}|names\.json {message}"):
        read_names(path)


def test_the_longer_mention_is_placed_first():
    words = ("New", "York", "and", "York")
    found = ground(words, [Entity("York", "LOC"), Entity("New York", "LOC")])
    assert found == (Span(0, 2, "LOC"), Span(3, 4, "LOC"))


def test_matches_inside_a_word_do_not_count():
    assert ground_tags(("Yorkshire", "pudding"), [Entity("York", "LOC")]) == ("O", "O")


def test_a_repeated_mention_takes_the_next_place():
    words = ("a", "b", "a")
    assert len(ground(words, [Entity("a", "X"), Entity("a", "X")])) == 2
    assert len(ground(words, [Entity("a", "X")])) == 1
    assert len(ground(words, [Entity("a", "X"), Entity("a", "X")], ALL)) == 2


def test_an_unknown_way_of_grounding_is_refused():
    with pytest.raises(ValueError, match="occurrences must be"):
        ground(("a",), [], "some")


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1), st.data())
def test_what_is_grounded_reads_as_the_mention(words: list[str], data):
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    text = " ".join(words[start:end])
    spans = ground(words, [Entity(text, "X")], ALL)
    assert spans
    assert all(" ".join(words[span.start : span.end]) == text for span in spans)


def test_counts_are_micro_over_multisets():
    metric = MicroF1()
    metric.update(["a"], ["a", "a"])
    metric.update(["b"], [])
    assert metric.compute() == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "hits": 1,
        "num_predicted": 2,
        "num_gold": 2,
    }
    assert MicroF1().compute()["f1"] == 0.0
    assert mean_over_datasets({"a": {"f1": 1.0}, "b": {"f1": 0.5}}) == 0.75


def test_answers_are_counted_by_status_and_reason():
    counts = ParseCounts()
    for result in (parsed(["x"]), parsed([]), parsed([], ["unknown type: a"]), malformed("bad: z")):
        counts.add(result)
    assert counts.to_dict() == {
        "ok": 1,
        "empty": 1,
        "partial": 1,
        "malformed": 1,
        "reasons": {"unknown type": 1, "bad": 1},
    }


@pytest.mark.parametrize(
    ("text", "end"),
    [("[]", 2), ('["]"]x', 5), ("['a', 'b']", 10), ('["a', None), ("[it's]", 6), ("[[1], 2]", 8)],
)
def test_the_closing_bracket_is_found(text, end):
    assert balanced(text, 0) == end


@pytest.mark.parametrize("text", ["[" * 100_000, '["\\x"]', "{1: }", "\0", "(" * 15_000])
def test_what_is_no_literal_is_no_exception(text):
    assert load_literal(text)[0] is False


def test_unknown_systems_and_settings_are_named():
    with pytest.raises(ValueError, match="unknown system 'gpt'; choose one of it"):
        load_system("gpt")
