"""Bytes and behaviour of the released UniversalNER code, and our own reading beside it."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.labels import LabelSet
from unmask.instruct.prompts import joined
from unmask.instruct.uniner import UniNER
from unmask.instruct.uniner_files import read_conversations, summarise, write_conversations
from unmask.instruct.uniner_metrics import partial, strict
from unmask.instruct.uniner_negatives import NegativeSampler

LABELS = LabelSet(("LOC", "ORG", "PER"))
EXAMPLE = IEExample(
    "e", "X", items=(Entity("Bush", "PER"), Entity("Iraq", "LOC"), Entity("Bush", "PER"))
)
HEAD = "A virtual assistant answers questions from a user based on the provided text."
PAPER, OFFICIAL = UniNER(), UniNER(mode="official")


def person_query(system=PAPER):
    return system.render(EXAMPLE, LABELS)[2]


def strings(output: str, system=PAPER):
    items = system.parse(output, person_query()).items
    return [item.text for item in items if isinstance(item, Entity)]


def test_the_prompt_has_the_released_bytes():
    assert person_query().prompt() == (
        f"{HEAD} USER: Text: X ASSISTANT: I've read this text.</s>"
        "USER: What describes person in the text? ASSISTANT:"
    )


def test_every_type_is_asked_by_itself_and_absent_ones_answer_an_empty_list():
    queries = PAPER.render(EXAMPLE, LABELS)
    assert [(query.about, query.answer) for query in queries] == [
        ("location", ' ["Iraq"]'),
        ("organization", " []"),
        ("person", ' ["Bush"]'),
    ]


def test_answers_escape_what_is_not_ascii():
    example = IEExample("e", "café", items=(Entity("café", "LOC"),))
    assert PAPER.render(example, LABELS)[0].answer == ' ["caf\\u00e9"]'


def test_a_training_conversation_asks_all_and_trains_answers_only():
    (query,) = UniNER(neg_fixed=1).render(EXAMPLE, LABELS, train=True)
    trained = [part.text for part in query.segments if part.trained]
    assert sorted(trained) == [' ["Bush"]', ' ["Iraq"]', " []"]
    assert query.segments[1].text == " I've read this text."
    assert joined(query.segments).startswith(
        f"{HEAD} USER: Text: X ASSISTANT: I've read this text.</s>USER: What describes "
    )


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        (PAPER, False),
        (OFFICIAL, True),
        (UniNER(mode="official", loss_on_ack=False), False),
        (UniNER(loss_on_ack=True), True),
    ],
)
def test_the_acknowledgement_is_in_the_loss_as_released_only(system, expected):
    (query,) = system.render(EXAMPLE, LABELS, train=True)
    assert query.segments[1].trained is expected


@pytest.mark.parametrize(
    ("output", "official", "robust", "status"),
    [
        ('["a b"]', ["a b"], ["a b"], "ok"),
        (' ["x"]', ["x"], ["x"], "ok"),
        ('Sure: ["x"]', [], ["x"], "partial"),
        ('["x [1] y"]', [], ["x [1] y"], "ok"),
        ('["x",\n"y"]', [], ["x", "y"], "ok"),
        ("['x']", [], ["x"], "partial"),
        ('["x", ]', [], ["x"], "partial"),
        ('["x"] extra ["y"]', ["x"], ["x"], "partial"),
        ("[1]", [], [], "partial"),
        ('["x", 1]', [], ["x"], "partial"),
        ('["x", "y', [], ["x"], "partial"),
        ('["x", "x"]', ["x"], ["x"], "ok"),
        ('["The X", "x"]', ["The X"], ["The X", "x"], "ok"),
        ("[]", [], [], "empty"),
        ("", [], [], "malformed"),
        ("none", [], [], "malformed"),
    ],
)
def test_the_released_and_the_patient_reading(output, official, robust, status):
    assert strings(output, OFFICIAL) == official
    assert strings(output) == robust
    assert PAPER.parse(output, person_query()).status == status


def test_as_released_an_article_matches_a_dash():
    assert strict([([""], [""])])["f1"] == 1.0
    gold = IEExample("e", "- a", items=(Entity("-", "PER"),))
    query = OFFICIAL.render(gold, LABELS)[2]
    assert OFFICIAL.evaluate([(query, '["a"]')])["f1"] == 1.0
    assert PAPER.evaluate([(query, '["a"]')])["f1"] == 0.0


@pytest.mark.parametrize("system", [PAPER, OFFICIAL])
def test_gold_scores_one_and_empty_answers_zero(system):
    queries = system.render(EXAMPLE, LABELS)
    gold = system.evaluate([(query, query.answer) for query in queries])
    assert gold["f1"] == gold["partial"]["f1"] == 1.0
    assert system.evaluate([(query, "[]") for query in queries])["f1"] == 0.0


pairs = st.lists(st.tuples(*[st.lists(st.text("ab ", min_size=1, max_size=5), max_size=4)] * 2))


@given(pairs)
def test_partial_is_never_below_strict_nor_above_one(compared):
    assert strict(compared)["f1"] <= partial(compared)["f1"] <= 1.0


def test_a_shared_word_is_half_a_hit_once():
    score = partial([(["New York"], ["York", "New"])])
    assert (score["hits"], score["num_predicted"], score["num_gold"]) == (0.5, 2, 1)
    assert partial([(["New York", "York"], ["York", "New Jersey"])])["hits"] == 1.5


def test_partial_hits_need_the_same_type():
    example = IEExample("e", "x", items=(Entity("New York", "LOC"),))
    queries = PAPER.render(example, LABELS)
    assert PAPER.evaluate([(queries[2], '["York"]'), (queries[0], "[]")])["partial"]["f1"] == 0.0


COUNTS = Counter({"person": 60, "place": 30, "poem": 10, "planet": 0})


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("frequency", {"person": 0.6, "place": 0.3, "poem": 0.1}),
        ("uniform", dict.fromkeys(COUNTS, 0.25)),
    ],
)
def test_negatives_follow_their_distribution(strategy, expected):
    sampler, generator = NegativeSampler(COUNTS, strategy), random.Random(3)
    draws = Counter(sampler.draw((), 1, generator)[0] for _ in range(6000))
    assert set(draws) == set(expected)
    result = chisquare(
        [draws[name] for name in expected], [6000 * share for share in expected.values()]
    )
    assert result.pvalue > 0.001


def test_the_last_types_are_drawn_with_the_same_odds():
    # All but two are refused, so quick drawing gives up and keys decide.
    counts = Counter({"a": 3, "b": 1, "c": 10**9})
    sampler, generator = NegativeSampler(counts, "frequency"), random.Random(5)
    draws = Counter(sampler.draw(("C",), 1, generator)[0] for _ in range(4000))
    assert chisquare([draws["a"], draws["b"]], [3000, 1000]).pvalue > 0.001


@given(st.sets(st.sampled_from(sorted(COUNTS))), st.integers(0, 6), st.integers(0, 99))
def test_negatives_are_absent_and_drawn_once(positives, number, seed):
    drawn = NegativeSampler(COUNTS, "uniform").draw(positives, number, random.Random(seed))
    assert len(drawn) == len(set(drawn)) == min(number, len(COUNTS) - len(positives))
    assert not set(drawn) & positives


def test_no_negatives_are_drawn_when_none_are_wanted():
    (query,) = UniNER(negatives="none").render(EXAMPLE, LABELS, train=True)
    assert set(query.labels) == {"person", "location"}
    assert not UniNER(negatives="none").render(IEExample("e", "x"), LABELS, train=True)


def test_frequencies_come_from_the_whole_data_set():
    labels = LabelSet(("a", "b", "c"))
    examples = [IEExample(str(i), "x", items=(Entity("x", "a"),)) for i in range(40)]
    examples += [IEExample("b", "x", items=(Entity("x", "b"),))]
    queries = list(UniNER().render_all(examples, labels, train=True))
    asked = Counter(name for query in queries for name in query.labels)
    assert asked == {"a": 41, "b": 41}


def test_catch_all_labels_are_left_out_on_request():
    labels = LabelSet(("PER", "MISC", "else"))
    items = (Entity("Bush", "PER"), Entity("x", "MISC"))
    example = IEExample("e", "Bush x", items=items)
    asked = [query.about for query in UniNER().render(example, labels)]
    assert asked == ["person", "miscellaneous", "else"]
    system = UniNER(catch_all=False, neg_fixed=5)
    (query,) = system.render(example, labels)
    assert (query.about, query.items) == ("person", (Entity("Bush", "person"),))
    (query,) = system.render_all([example], labels, train=True)
    assert (query.labels, query.items) == (("person",), (Entity("Bush", "person"),))


def test_so_many_examples_of_a_data_set_are_trained_on_and_all_are_asked():
    items = (Entity("Bush", "PER"),)
    examples = [
        IEExample(f"{d}{i}", "Bush", items=items, dataset=d) for d in "ab" for i in range(9)
    ]
    system = UniNER(max_per_dataset=4)
    labels = LabelSet(("PER",))
    trained = [query.example_id for query in system.render_all(examples, labels, train=True)]
    assert [one[0] for one in trained] == [*"aaaabbbb"]
    assert trained != [f"{d}{i}" for d in "ab" for i in range(4)], "drawn, not the first"
    assert len(list(system.render_all(examples, labels))) == 18


def test_unknown_strategies_are_refused():
    with pytest.raises(ValueError, match="negatives must be one of none, uniform, frequency"):
        UniNER(negatives="some")
    with pytest.raises(ValueError, match="negatives must be one of"):
        NegativeSampler(COUNTS, "some")


def test_definitions_take_the_place_of_names_and_come_back_as_types():
    labels = LabelSet(("PER",), descriptions={"PER": "a human being"})
    (query,) = UniNER(variant="definition").render(EXAMPLE, labels)
    assert "What describes a human being in the text?" in query.prompt()
    assert PAPER.parse('["Bush"]', query).items == (Entity("Bush", "person"),)


def test_all_types_at_once_come_back_from_one_object():
    system = UniNER(variant="all-in-one")
    (query,) = system.render(EXAMPLE, LABELS)
    assert query.answer == ' {"location": ["Iraq"], "organization": [], "person": ["Bush"]}'
    assert query.prompt().endswith(
        "USER: What describes the following types in the text: location, organization, person? "
        "ASSISTANT:"
    )
    assert set(system.parse(query.answer, query).items) == set(query.items)
    for output, status, number in [
        ('{"person": ["Bush"', "partial", 1),
        ('{"person": ["Bush", "Ir', "partial", 2),
        ('{"planet": ["Mars"]}', "partial", 0),
        ('{"person": "Bush"}', "partial", 0),
        ('so {"person": ["Bush"]}', "partial", 1),
        ("{}", "empty", 0),
        ("[]", "malformed", 0),
        ("{[", "malformed", 0),
    ]:
        result = system.parse(output, query)
        assert (result.status, len(result.items)) == (status, number), output


def test_the_data_set_may_be_named_before_the_text():
    example = IEExample("e", "X", dataset="CrossNER")
    query = UniNER(dataset_field=True).render(example, LABELS)[0]
    assert "USER: Dataset: CrossNER\nText: X ASSISTANT:" in query.prompt()


def test_published_files_are_read_and_written(tmp_path):
    path = tmp_path / "CrossNER_AI.json"
    queries = PAPER.render(EXAMPLE, LABELS)
    write_conversations(path, queries)
    assert json.loads(path.read_text())[2]["conversations"][2:] == [
        {"from": "human", "value": "What describes person in the text?"},
        {"from": "gpt", "value": '["Bush"]'},
    ]
    back = read_conversations(path)
    assert [query.segments for query in back] == [query.segments for query in queries]
    assert [query.items for query in back] == [query.items for query in queries]
    assert summarise(back) == {
        "queries": 3,
        "empty": 1,
        "types": 3,
        "mentions": 2,
        "unique": 2,
        "texts": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "holds no JSON array"),
        ("[{}]", "record 0: not a conversation"),
        ('[{"conversations": [{"from": "human", "value": "Text: x"}]}]', "record 0"),
    ],
)
def test_a_file_of_another_form_is_named(tmp_path, content, message):
    path = tmp_path / "test.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_conversations(path)


def test_a_conversation_that_asks_otherwise_is_named(tmp_path):
    turns = [("human", "Text: x"), ("gpt", "ok"), ("human", "Who?"), ("gpt", "[]")]
    record = {"conversations": [{"from": a, "value": b} for a, b in turns]}
    path = tmp_path / "test.json"
    path.write_text(json.dumps([record]))
    with pytest.raises(ValueError, match=r"the question 'Who\?' is not 'What describes"):
        read_conversations(path)
