"""How answers of Hum are read and scored."""

# ruff: noqa: E501 (a prompt and its answer stand on one line each)
from __future__ import annotations

from dataclasses import replace

import pytest

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
)
from unmask.instruct.hum import Hum
from unmask.instruct.labels import LabelSet

MOVIE = IEExample(
    "m",
    "please show me a documentary featuring jessica lange from the 2010 s",
    items=(Entity("2010 s", "year"), Entity("jessica lange", "actor")),
)
HACK = IEExample(
    "h",
    "a computer hack on Friday",
    items=(Event("data breach", "hack", (Argument("victim", "computer"), Argument("time", "Friday"))),),
)  # fmt: skip
PLAN = IEExample("c", "W: A diary?", items=(Answer("semester plan", "What?", ("diary", "semester plan")),))  # fmt: skip
LOTTERY = IEExample("t", "48 yuan wins", items=(Category("lottery"),))
HACK_LABELS = LabelSet(
    ("data breach", "ransom"),
    roles={"data breach": ("place", "victim", "time"), "ransom": ("victim",)},
)


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ('Sure: {"year": ["2010 s"]}', "ok"),
        ('```json\n{"year": []}\n```', "empty"),
        ('{"year": ["2010 s"], "planet": ["Mars"]}', "partial"),
        ('{"year": "2010 s"}', "partial"),
        ('{"year": [1, "2010 s"]}', "partial"),
        ('{"year": "NAN"}', "partial"),
        ("", "malformed"),
        ('["2010 s"]', "malformed"),
        ('{"year": ["2010', "malformed"),
    ],
)
def test_a_json_answer_is_read_as_far_as_it_is_one(output, status):
    (query,) = Hum().render(MOVIE, LabelSet(("year", "actor")))
    assert Hum().parse(output, query).status == status


def test_the_official_reader_takes_whole_json_only():
    (query,) = Hum().render(MOVIE, LabelSet(("year", "actor")))
    assert Hum(mode="official").parse('Sure: {"year": ["a"]}', query).status == "malformed"
    assert Hum(mode="official").parse('{"year": ["a"]}', query).status == "ok"


def test_the_published_slip_in_the_key_is_read():
    (query,) = Hum(use="TC").render(LOTTERY, LabelSet(("sports", "lottery")))
    assert Hum().parse('{"type ": "lottery"}', query).items == (Category("lottery"),)
    assert Hum().parse('{"type": "chess"}', query).status == "malformed"


@pytest.mark.parametrize(
    ("answer", "items"),
    [("semester plan", 1), ('"semester plan".', 1), ("Not mentioned", 0), ("a novel", 0)],
)
def test_a_choice_is_one_of_the_choices(answer, items):
    (query,) = Hum(use="MRC").render(PLAN, LabelSet(()))
    assert len(Hum().parse(answer, query).items) == items


@pytest.mark.parametrize(
    ("task", "output", "status"),
    [
        ("EE", '{"data breach": [{"trigger": 1}]}', "partial"),
        ("EE", '{"data breach": [{"trigger": "hack", "arguments": {"x": "y"}}]}', "partial"),
        ("EE", '{"data breach": [{"trigger": "NAN", "arguments": {}}]}', "ok"),
        ("EE", '{"data breach": 3}', "partial"),
        ("EEA", '{"data breach": {}}', "empty"),
        ("EEA", '{"data breach": [{"place": "NAN"}]}', "ok"),
        ("KGE", '{"data breach": {"a": {"b": ["c", "d"]}}}', "ok"),
        ("KGE", '{"data breach": {"a": "b"}}', "partial"),
        ("KGE", "{}", "empty"),
    ],
)
def test_events_and_graphs_tell_faults_from_nothing(task, output, status):
    (query,) = Hum(use="EE").render(HACK, HACK_LABELS)
    assert Hum().parse(output, replace(query, task=task)).status == status


def test_tags_come_from_all_batches():
    labels = LabelSet((*(f"x{index}" for index in range(8)), "PER"))
    example = IEExample("s", "Bush spoke", ("Bush", "spoke"), (Entity("Bush", "PER"),))
    system = Hum()
    answered = [(query, query.answer) for query in system.render(example, labels)]
    assert len(answered) == 2
    assert system.tags(("Bush", "spoke"), answered, labels) == ("B-PER", "O")


def test_events_are_scored_by_trigger_and_by_argument():
    system = Hum(use="EE")
    (query,) = system.render(HACK, HACK_LABELS)
    output = '{"data breach": [{"trigger": "hack", "arguments": {"victim": "computer"}}]}'
    scores = system.evaluate([(query, output)])["tasks"]["EE"]
    assert (scores["f1"], scores["arguments"]["recall"]) == (1.0, 0.5)
    assert system.evaluate([]) == {"f1": 0.0, "tasks": {}}
