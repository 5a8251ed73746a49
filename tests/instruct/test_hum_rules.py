# ruff: noqa: E501 (an answer stands on one line)
from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.instruct.hum_rules import (
    PROMPT,
    STRATEGIES,
    Sample,
    pairs_without_model,
    read_pairs,
    read_prompt,
    read_rule_answer,
    rule_prompt,
    synthesise_rules,
    without_model,
)
from unmask.instruct.uniner_teacher import Teacher

INCOME = Sample(
    "Average household income was $ 194,000 , and net assets were $ 775,000 .",
    "money",
    ("$ 194,000", "$ 775,000"),
)
DEGREES = Sample("She holds a bachelor's degree and a Ph.D.", "degree", ("bachelor's degree", "Ph.D."))  # fmt: skip
ANSWER = """Schema Description: Academic degrees.
Original Rule: Take every degree.
New Rule: Take the highest degree only.
New Label: ["Ph.D."]"""


def test_the_pair_of_the_appendix_is_made_without_a_model():
    pair = without_model(INCOME, "punctuation")
    assert pair is not None
    assert pair.new_values == ("194,000", "775,000")
    assert pair.old_values == ("$ 194,000", "$ 775,000")
    assert pair.new_rule != pair.old_rule


def test_the_other_rewriters_keep_the_first_the_outer_or_the_other_end():
    nested = Sample("Beijing Sport University in Beijing", "place", ("Beijing", "Beijing Sport University"))  # fmt: skip
    related = Sample("a directed b", "directed by", ({"subject": "b", "object": "a"},), "RE")
    made = {pair.strategy: pair.new_values for pair in pairs_without_model([nested, related])}
    assert made == {
        "nesting": ("Beijing Sport University",),
        "numerical": ("Beijing",),
        "reverse": ({"subject": "a", "object": "b"},),
    }
    assert without_model(DEGREES, "granularity") is None


def test_the_prompt_names_strategy_text_label_and_annotation():
    prompt = rule_prompt(DEGREES, "numerical")
    for part in (STRATEGIES["numerical"], DEGREES.text, '["bachelor\'s degree", "Ph.D."]'):
        assert part in prompt
    assert "{text}" in rule_prompt(Sample("{text} {label}", "x", ("y",)), "nesting")


def test_an_unknown_strategy_is_named():
    with pytest.raises(ValueError, match="unknown strategy 'luck'; choose one of entity_bound"):
        rule_prompt(DEGREES, "luck")


def test_a_good_answer_becomes_a_pair():
    pair, reason = read_rule_answer(ANSWER, DEGREES, "numerical")
    assert pair is not None
    assert (pair.new_values, pair.new_rule, reason) == (("Ph.D.",), "Take the highest degree only.", "")  # fmt: skip
    assert pair.description == "Academic degrees."


def test_fields_may_be_written_in_bold():
    starred = ANSWER.replace("New Rule:", "**New Rule:**").replace("New Label", "- new label")
    assert read_rule_answer(starred.replace("- new", "* new"), DEGREES, "numerical")[0] is not None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("Take the highest degree only.", "None", "refused by the model"),
        ('["Ph.D."]', "[", "the new label is no JSON list"),
        ('["Ph.D."]', '["Master"]', "a value that is not in the text"),
        ('["Ph.D."]', '[{"a": 1}]', "a value of another form"),
        ('["Ph.D."]', '["Ph.D.", "bachelor\'s degree"]', "the new label is the old one"),
        ("Original Rule: ", "Rule: ", "no field: Original Rule"),
        ("Take every degree.", "", "an empty rule"),
    ],
)
def test_an_answer_that_cannot_be_used_says_why(old, new, reason):
    assert read_rule_answer(ANSWER.replace(old, new), DEGREES, "numerical") == (None, reason)


def test_values_of_a_relation_are_pairs():
    sample = Sample("a b c", "is", ({"subject": "a", "object": "b"},), "RE")
    answer = ANSWER.replace('["Ph.D."]', '[{"subject": "b", "object": "c"}]')
    assert read_rule_answer(answer, sample, "reverse")[0] is not None
    wrong = ANSWER.replace('["Ph.D."]', '[{"subject": "b"}]')
    assert read_rule_answer(wrong, sample, "reverse") == (None, "a value of another form")


@pytest.fixture
def server(play_teacher):
    """A chat endpoint that always answers ANSWER and keeps what it was asked."""
    with play_teacher(lambda prompt: ANSWER) as running:
        yield running


def test_six_strategies_are_asked_in_turn_through_an_endpoint(tmp_path, server):
    path = tmp_path / "rules.jsonl"
    teacher = Teacher(server.url, "m", num_tries=1)
    related = [Sample(f"{index} a b", "is", ({"subject": "a", "object": "b"},), "RE") for index in range(6)]  # fmt: skip
    counts = synthesise_rules([DEGREES, *related], teacher.ask, path)
    assert len(server.prompts) == 7
    asked = [next(n for n, text in STRATEGIES.items() if text in p) for p in server.prompts]
    assert set(asked) == set(STRATEGIES)
    assert counts == {"kept: entity_boundaries": 1, "dropped: a value of another form": 6}
    (pair,) = read_pairs(path)
    assert pair.new_values == ("Ph.D.",)
    assert synthesise_rules([DEGREES], teacher.ask, path) == {}
    assert len(server.prompts) == 7


def test_entities_are_never_reversed(tmp_path):
    asked: list[str] = []
    samples = [Sample(f"{index} Ph.D.", "degree", ("x",)) for index in range(12)]

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "no"

    counts = synthesise_rules(samples, ask, tmp_path / "rules.jsonl")
    assert len(asked) == 12
    assert not any(STRATEGIES["reverse"] in prompt for prompt in asked)
    assert counts == {"dropped: no field: Schema Description": 12}


def test_a_line_of_another_form_is_named_and_a_cut_one_passed_over(tmp_path):
    path = tmp_path / "rules.jsonl"
    path.write_text('{"text": "cut')
    assert read_pairs(path) == []
    path.write_text('{"text": "x"}\n')
    with pytest.raises(ValueError, match=r"rules\.jsonl:1 is no preference rule"):
        read_pairs(path)


def test_another_prompt_comes_from_a_file(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(PROMPT.replace("{label}", ""))
    with pytest.raises(ValueError, match=r"prompt\.txt does not hold \{label\}"):
        read_prompt(path)
    path.write_text("{text} {label} {values} {strategy}")
    assert rule_prompt(DEGREES, "nesting", read_prompt(path)).startswith(DEGREES.text)


PIECES = st.sampled_from([*ANSWER.split("\n"), "New Label:", "[", '"', "None", "\n", "**", ":"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.text(max_size=5), max_size=12))
def test_no_answer_makes_the_reader_fail(pieces):
    pair, reason = read_rule_answer("\n".join(pieces), DEGREES, "numerical")
    assert (pair is None) == bool(reason)
