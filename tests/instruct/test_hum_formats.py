# ruff: noqa: E501 (an answer stands on one line)
from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.instruct.hum_formats import (
    COLUMNS,
    EMPTIES,
    LABEL_COLUMN,
    STYLES,
    header,
    load_json,
    read_rows,
    write_rows,
)

LABELS = ["kill", "born: in"]
KILL = ("kill", "Sirhan Sirhan", "Robert F. Kennedy")


def test_the_markdown_table_of_the_appendix_is_written_and_its_short_rule_read():
    table = write_rows("RE", [KILL], ["kill"], "markdown", "omit")
    assert table == (
        "| subject | predicate | object |\n"
        "| --- | --- | --- |\n"
        "| Sirhan Sirhan | kill | Robert F. Kennedy |"
    )
    printed = (
        "| subject |predicate | object |\n| --- | --- |\n"
        "| Sirhan Sirhan| kill | Robert F. Kennedy | "
    )
    assert read_rows("RE", printed, ["kill"], "markdown", "omit") == ([KILL], [])


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("json", '{"person": ["Bush"], "place": "NAN"}'),
        (
            "json-list",
            '[{"entity_type": "person", "entity": "Bush"}, {"entity_type": "place", "entity": "NAN"}]',
        ),
        ("lines", "person: Bush\nplace: NAN"),
        (
            "markdown",
            "| entity_type | entity |\n| --- | --- |\n| person | Bush |\n| place | NAN |",
        ),
        (
            "code",
            '[\n    Entity(entity_type="person", entity="Bush"),\n'
            '    Entity(entity_type="place", entity="NAN"),\n]',
        ),
    ],
)
def test_every_form_is_byte_exact(style, expected):
    assert write_rows("NER", [("person", "Bush")], ["person", "place"], style, "NAN") == expected


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("empty", EMPTIES)
@pytest.mark.parametrize("task", COLUMNS)
def test_each_empty_outcome_says_nothing_in_its_own_form_only(task, style, empty):
    answer = write_rows(task, [], LABELS, style, empty)
    assert read_rows(task, answer, LABELS, style, empty) == ([], [])
    if empty == "omit":
        return
    for other in set(EMPTIES) - {empty, "omit"}:
        rows, errors = read_rows(task, answer, LABELS, style, other)
        assert rows == []
        assert len(errors) == len(LABELS)
        assert errors[0].startswith(f"another way to say nothing than {other}")


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12)


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(STYLES), st.sampled_from(EMPTIES), st.sampled_from(list(COLUMNS)))
def test_rows_read_back_in_every_form(data, style, empty, task):
    width = len(COLUMNS[task]) - 1
    # What stands for "nothing" cannot be told from a cell, and outer space is not kept.
    cells = CELLS.filter(lambda one: one == one.strip() and one not in ("NAN", "[]", '""'))
    row = st.tuples(st.sampled_from(LABELS), *[cells] * width)
    rows = data.draw(st.lists(row, max_size=4))
    answer = write_rows(task, rows, LABELS, style, empty)
    found, errors = read_rows(task, answer, LABELS, style, empty)
    assert errors == []
    assert sorted(found or []) == sorted(rows)


@pytest.mark.parametrize("style", STYLES)
def test_a_blank_answer_is_nothing_only_where_lines_may_be_left_out(style):
    rows, _ = read_rows("NER", " ", LABELS, style, "omit")
    assert (rows == []) == (style == "lines")
    assert read_rows("NER", "", LABELS, style, "NAN")[0] is None


@pytest.mark.parametrize(
    ("style", "text", "fault"),
    [
        ("json", '{"kill": [{"subject": "a"}]}', "incomplete"),
        ("json", '{"kill": ["a"]}', "incomplete"),
        ("json", '{"planet": []}', "unknown label: planet"),
        ("json-list", "[3]", "unknown label: 3"),
        ("json-list", '[{"predicate": "kill", "subject": "NAN", "object": "b"}]', "incomplete"),
        ("lines", "kill: a", "incomplete"),
        ("markdown", "| subject | predicate | object |\n| a |", "unknown label: a"),
        ("code", '[Triple(predicate="kill")]', "incomplete"),
    ],
)
def test_half_a_row_is_a_fault_and_no_row(style, text, fault):
    good = {"lines": "\nkill: a | b"}.get(style, "")
    rows, errors = read_rows("RE", text + good, LABELS, style, "omit")
    assert rows == ([("kill", "a", "b")] if good else [])
    assert errors[0].startswith(fault)


@pytest.mark.parametrize("style", STYLES)
def test_another_form_is_not_read(style):
    rows, errors = read_rows("NER", "I do not know.", LABELS, style, "NAN")
    assert rows is None
    assert errors[0].startswith(f"not the form asked for ({style})")


def test_headers_name_every_column():
    for task, columns in COLUMNS.items():
        assert columns[LABEL_COLUMN[task]] in header(task, "lines")
        styles = [style for style in STYLES if style != "json"]
        assert all(name in header(task, style) for style in styles for name in columns)


def test_no_bracket_is_no_value():
    assert load_json("none", "{") is None
    assert load_json("{1", "{") is None


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "piece",
    [
        "\\",
        "|",
        "| a ",
        "Entity(",
        'Entity(entity="',
        "{",
        "[",
        '"',
        "kill:",
        "kill: a\n",
        "| a |\n",
    ],
)
def test_reading_takes_time_that_grows_with_the_length_only(style, piece):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        best = float("inf")
        for _ in range(3):
            begin = time.process_time()
            read_rows("NER", text, LABELS, style, "NAN")
            best = min(best, time.process_time() - begin)
        return best

    # Eight times the text: linear is 8, quadratic 64. The floor covers what a busy machine adds.
    assert seconds(40_000) < 24 * seconds(5_000) + 0.02
