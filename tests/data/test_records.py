import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.records import read_json_array, read_jsonl, tag_key
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions
from unmask.data.tags import spans_from_tags

RECORDS = [
    {"tokens": ["in", "New", "York"], "ner_tags": ["O", "B-LOC", "I-LOC"], "chunk_tags": ["O"] * 3},
    {"tokens": [], "ner_tags": []},
    {"text": "Ann left Rome.", "spans": [{"start": 9, "end": 13, "label": "LOC", "id": 7}]},
]
EXPECTED = [
    (("in", "New", "York"), ("O", "B-LOC", "I-LOC")),
    (("Ann", "left", "Rome", "."), ("O", "O", "B-LOC", "O")),
]


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="train.jsonl"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write_file


def test_both_shapes_of_record_a_line_each(write):
    reading = read_jsonl(write("\n\n".join(map(json.dumps, RECORDS))), ReadOptions())
    assert [(s.words, s.tags) for s in reading.sentences] == EXPECTED
    assert [s.id for s in reading.sentences] == ["train.jsonl:1", "train.jsonl:5"]
    assert "train.jsonl: left out 1 records without words" in reading.notes


@pytest.mark.parametrize(("indent", "lines"), [(None, [1, 1]), (2, [2, 23])])
def test_array_elements_know_their_lines(write, indent, lines):
    text = json.dumps(RECORDS, indent=indent)
    reading = read_json_array(write(text, "train.json"), ReadOptions())
    assert [(s.words, s.tags) for s in reading.sentences] == EXPECTED
    assert [s.id for s in reading.sentences] == [f"train.json:{line}" for line in lines]
    if indent:
        assert text.split("\n")[lines[1] - 1].strip() == "{"


def test_column_picks_the_key_of_tags(write):
    reading = read_jsonl(write(json.dumps(RECORDS[0])), ReadOptions(column="chunk"))
    assert reading.sentences[0].tags == ("O", "O", "O")
    assert tag_key(["tokens", "tags"], None) == "tags"
    assert tag_key(["tokens"], "mine") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '["O", "B-LOC", "I-LOC"]'),
        ("label.json", '{"B-LOC": 1, "O": 0, "I-LOC": 2}'),
        ("labels.json", '{"2": "I-LOC", "0": "O", "1": "B-LOC"}'),
        ("labels.txt", "O\nB-LOC\nI-LOC\n"),
    ],
)
def test_integer_tags_take_their_names_from_a_file_beside(write, name, content):
    write(content, name)
    path = write('{"tokens": ["a", "b", "c"], "tags": [0, 1, 2]}')
    assert read_jsonl(path, ReadOptions()).sentences == (
        Sentence("train.jsonl:1", ("a", "b", "c"), ("O", "B-LOC", "I-LOC")),
    )


def test_unusable_name_file_is_an_error(write):
    write('{"O": 0, "B-LOC": 2}', "labels.json")
    with pytest.raises(ValueError, match=r"labels\.json: expected a list of tag names in number"):
        read_jsonl(write('{"tokens": ["a"], "tags": [0]}'), ReadOptions())


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"tokens": ["a"], "tags": [0]}', "tag 0 is a number without a name; write the tags as"),
        ('{"tokens": ["a"], "tags": ["O", "O"]}', "1 words but 2 tags in 'tags'; give one tag a"),
        ('{"tokens": ["a"], "tags": null}', "1 words but no list of tags in 'tags'"),
        ('{"tokens": ["a"], "tags": [true]}', "are neither all strings nor all integers"),
        ('{"tokens": "abc", "tags": ["O", "O", "O"]}', "the words are not a list of strings"),
        ('{"tokens": ["a"], "pos": ["O"]}', r"no column of tags \(ner_tags or tags or"),
        ('{"words": ["a"]}', "no column of tags"),
        ('{"sentence": "a"}', 'a record needs "tokens" and "ner_tags", or "text" and "spans"'),
        ("[1]", r"expected a JSON object, got \[1\]"),
        ('{"tokens": ["a"]', "not valid JSON: Expecting ',' delimiter"),
        ("{", "not valid JSON: .*; each line must be one object, or the file one array"),
        ('{"a": 1} {"b": 2}', "more than one JSON value; put each on its own line"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"tokens": ["\\ud800"], "tags": ["O"]}', "holds half a surrogate pair"),
        ('{"tokens": ["a"], "tags": ["B-"]}', "tag 'B-' is neither 'O' nor a prefix"),
    ],
)
def test_bad_record_is_an_error_with_its_line(write, record, message):
    with pytest.raises(ValueError, match=rf"train\.jsonl:2: .*{message}"):
        read_jsonl(write(f'{{"tokens": ["x"], "tags": ["O"]}}\n{record}\n'), ReadOptions())


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ('[{"start": 0, "end": 2, "label": "X"}]', "span 'An' at characters 0 to 2 does not begin"),
        ('[{"start": 3, "end": 8, "label": "X"}]', "span ' left' at characters 3 to 8 does not"),
        ('[{"start": 8, "end": 4, "label": "X"}]', "span '' at characters 8 to 4 does not"),
        ('[{"start": 0, "end": 99, "label": "X"}]', "span 'Ann left' at characters 0 to 99"),
        ('[{"start": 0, "end": 3, "label": " "}]', 'a span needs whole numbers "start" and "end"'),
        ('[{"start": "0", "end": 3, "label": "X"}]', "a span needs whole numbers"),
        ('[{"start": false, "end": 3, "label": "X"}]', "a span needs whole numbers"),
        ("[7]", "a span needs whole numbers .* got 7"),
        ("7", '"text" must be a string and "spans" a list'),
        (
            '[{"start": 0, "end": 3, "label": "X"}, {"start": 0, "end": 8, "label": "Y"}]',
            "spans overlap: 'X' at words 0 to 1 and 'Y' at 0 to 2",
        ),
    ],
)
def test_bad_span_is_an_error_with_its_line(write, spans, message):
    with pytest.raises(ValueError, match=rf"train\.jsonl:1: .*{message}"):
        read_jsonl(write(f'{{"text": "Ann left", "spans": {spans}}}'), ReadOptions())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r":1: expected a JSON array"),
        ('[\n{"tokens": [], "tags": []}\n{}]', r":3: expected ',' or '\]' after an element"),
        ('[{"tokens": ["a"], "tags": ["O"]}]\nx', r":2: more text after the end of the JSON array"),
        ("[\n{},\n7]", r":2: a record needs"),
        ("[\n7]", r":2: expected a JSON object, got 7"),
        ("[{", r":1: not valid JSON"),
        ("[]", r": no sentences found when read as a JSON array"),
    ],
)
def test_bad_array_is_an_error_with_its_line(write, content, message):
    with pytest.raises(ValueError, match=r"train\.json" + message):
        read_json_array(write(content, "train.json"), ReadOptions())


@given(st.data())
def test_spans_on_words_come_back_as_the_same_text(tmp_path_factory, data):
    words = data.draw(st.lists(st.from_regex(r"[a-zé0-9]{1,5}", fullmatch=True), min_size=1))
    text = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    start = len(" ".join(words[:first])) + (first > 0)
    end = len(" ".join(words[: last + 1]))
    path = tmp_path_factory.mktemp("jsonl") / "train.jsonl"
    record = {"text": text, "spans": [{"start": start, "end": end, "label": "X"}]}
    path.write_text(json.dumps(record), encoding="utf-8")
    (sentence,) = read_jsonl(path, ReadOptions()).sentences
    (span,) = spans_from_tags(sentence.tags)
    assert " ".join(sentence.words[span.start : span.end]) == text[start:end]
