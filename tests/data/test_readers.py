import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.readers import READERS, corpus_of, detect_format, read_corpus, read_file
from unmask.data.source import ReadOptions

UNER_ROW = "1\tin\tO\t-\t-\n"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train.txt", "a O\n", "conll"),
        ("train.txt", "[ O\n", "conll"),
        ("train.txt", "{ O\n{ O\n", "conll"),
        ("train.txt", '{"tokens": ["a"], "tags": ["O"]}\n', "jsonl"),
        ("train.txt", "# text = in\n" + UNER_ROW, "iob2"),
        ("train.conll", UNER_ROW, "iob2"),
        ("train.iob2", "# text = in\r\n1\tin\tO\t-\t-\r\n", "iob2"),
        ("train.iob2", "in\tO\n", "conll"),
        ("train.json", '[{"tokens": ["a"]}]', "json"),
        ("train.json", '{"tokens": ["a"]}\n{"tokens": ["b"]}', "jsonl"),
        ("train.json", '[{"words": ["a"], "golden-event-mentions": []}]', "ace"),
        ("train.jsonl", '{"words": ["a"], "golden-event-mentions": []}', "ace"),
        ("train.json", "nothing", "json"),
        ("train.xml", "<sentences/>", "semeval"),
        ("train.txt", "<?xml version='1.0'?><sentences/>", "semeval"),
        ("train.spacy", "", "spacy"),
        ("train.parquet", "", "parquet"),
    ],
)
def test_format_is_told_by_content_where_the_ending_does_not(tmp_path, name, content, expected):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8", newline="")
    assert detect_format(path) == expected


def test_folder_becomes_a_corpus_with_the_labels_of_all_splits(tmp_path):
    (tmp_path / "train.conll").write_text("a B-X\n")
    (tmp_path / "dev.jsonl").write_text('{"tokens": ["b"], "tags": ["S-Y"]}')
    corpus = read_corpus(tmp_path, "mine", licence="CC0")
    assert (corpus.name, corpus.licence, corpus.labels) == ("mine", "CC0", ("X", "Y"))
    assert corpus.validation[0].tags == ("B-Y",)
    assert corpus.test == ()
    assert corpus.notes == (
        "train.conll: 1 sentences read as CoNLL columns separated by spaces, tags IOB2",
        "dev.jsonl: 1 sentences read as JSON lines, tags BIOES converted to IOB2",
    )


def test_corpus_of_nothing_is_empty():
    assert corpus_of("none", {}).labels == ()


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_file(tmp_path / "train.txt")


PIECES = st.sampled_from(
    [
        *(
            "\n",
            "\t",
            " ",
            "\r",
            "\x00",
            "\u2028",
            "\ufeff",
            "#",
            "&",
            "<",
            "{",
            "}",
            "[",
            "]",
            '"',
        ),
        *("-DOCSTART-", "1\ta\tO\t-\t-", "O", "B-X", "I-X", "E-", "S-Y", ",", '["a"]', "[0]"),
        *('"tokens":', '"tags":', '"text":', '"spans":', '"words":', '"golden-event-mentions":'),
        '{"trigger":{"start":0,"end":1},"event_type":"X"}',
        *("<!DOCTYPE a>", "<sentences>", "<sentence>", "<text>a</text>", "</sentence>"),
        *("</sentences>", '<aspectTerm from="0" to="1" polarity="x"/>'),
    ]
)
CONTENTS = st.one_of(
    st.lists(PIECES, max_size=20).map("".join).map(str.encode),
    st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["tokens", "ner_tags", "text", "spans", "words", "start", "end"]),
                inner,
                max_size=4,
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


def outcome(action):
    """(result, None) or (None, the ValueError); any other exception fails the test."""
    try:
        return action(), None
    except ValueError as error:
        return None, error


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("format_name", sorted(set(READERS) - {"saved"}))
@given(content=CONTENTS, repair=st.booleans())
@settings(deadline=None)
def test_any_content_is_read_or_refused_with_the_name_of_the_file(
    scratch, format_name, content, repair
):
    path = scratch / f"train-{format_name}.data"
    path.write_bytes(content)
    options = ReadOptions(repair=repair)
    reading, error = outcome(lambda: READERS[format_name](path, options))
    if reading is None:
        assert type(error) is ValueError
        assert str(error).startswith(str(path))
        assert "\n" not in str(error)
    else:
        assert reading.sentences
        corpus_of("fuzz", {"train": reading}).fingerprint()


@given(content=CONTENTS)
@settings(deadline=None)
def test_any_content_gets_some_format(scratch, content):
    path = scratch / "train.txt"
    path.write_bytes(content)
    found, error = outcome(lambda: detect_format(path))
    assert found in READERS or "is not UTF-8" in str(error)
