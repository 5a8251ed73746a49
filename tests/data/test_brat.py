from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.brat import read_brat, write_brat
from unmask.data.readers import detect_format, read_corpus, read_file
from unmask.data.sentence import Sentence, Span
from unmask.data.source import ReadOptions
from unmask.data.tags import spans_from_tags, tags_from_spans


def pair(folder, text, annotations, name="a"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_bytes(text.encode())
    (folder / f"{name}.ann").write_bytes(annotations.encode())
    return folder


def read(folder):
    return read_brat(folder, ReadOptions())


def test_every_line_is_a_sentence_with_its_spans(tmp_path):
    pair(tmp_path, "Ada met Bob.\nParis was\ncold\n", "T1\tPER 0 3\tAda\nT2\tLOC 13 18\tParis\n")
    first, second, third = read(tmp_path).sentences
    assert first.words == ("Ada", "met", "Bob", ".")
    assert first.tags == ("B-PER", "O", "O", "O")
    assert (second.words, second.tags) == (("Paris", "was"), ("B-LOC", "O"))
    assert third.id.endswith(":3")


def test_lines_that_a_span_joins_are_one_sentence(tmp_path):
    pair(tmp_path, "in New\nYork now\nno", "T1\tLOC 3 6;7 11\tNew York\n")
    first, second = read(tmp_path).sentences
    assert first.words == ("in", "New", "York", "now")
    assert first.tags == ("O", "B-LOC", "I-LOC", "O")
    assert second.words == ("no",)


def test_offsets_count_the_carriage_returns_of_the_file(tmp_path):
    pair(tmp_path, "one\r\nAda\r\n", "T1\tPER 5 8\tAda\r\n")
    assert read(tmp_path).sentences[1].tags == ("B-PER",)


def test_what_is_no_span_is_left_out_and_counted(tmp_path):
    pair(tmp_path, "Ada ran", "T1\tPER 0 3\tAda\nE1\tRun:T1\n#1\tNote T1\tok\n")
    pair(tmp_path, " \n", "", "b")
    (tmp_path / "c.txt").write_text("alone")
    notes = "\n".join(read(tmp_path).notes)
    assert "2 annotations that are no spans of text left out" in notes
    assert "1 documents without words left out" in notes
    assert "1 texts without an .ann file left out" in notes


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ("T1 PER 0 3 Ada\n", r"a\.ann:1: expected 'T1<TAB>LABEL START END<TAB>TEXT', got 'T1 PER"),
        ("\nT1\tPER 0 99\tx\n", r"a\.ann:2: characters 0 to 99 are not a stretch of the text"),
        ("T1\tPER 0 3;8 11\tAda Bob\n", r"a\.ann:1: T1 has words of others inside"),
        ("T1\tPER 0 2\tAd\n", r"a\.ann:1: 'Ad' at characters 0 to 2 does not begin and end where"),
        ("T1\tPER 0 7\tx\nT2\tX 4 7\tmet\n", r"a\.ann:2: 'met' overlaps an earlier span"),
    ],
)
def test_what_cannot_be_labelled_is_refused_with_its_line(tmp_path, annotations, message):
    pair(tmp_path, "Ada met Bob", annotations)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_missing_text_and_one_in_another_encoding_are_said(tmp_path):
    (tmp_path / "a.ann").write_text("")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*a\.txt beside a\.ann"):
        read(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"ok\ncaf\xe9")
    with pytest.raises(ValueError, match=r"a\.txt:2: byte 0xe9 is not UTF-8"):
        read(tmp_path)


def test_a_corpus_is_a_folder_per_split(tmp_path):
    pair(tmp_path / "train", "Ada", "T1\tPER 0 3\tAda\n")
    pair(tmp_path / "dev", "Oslo", "T1\tLOC 0 4\tOslo\n")
    corpus = read_corpus(tmp_path, "mine")
    assert corpus.labels == ("LOC", "PER")
    assert [s.words for s in corpus.validation] == [("Oslo",)]
    assert read_corpus(tmp_path / "dev", "mine").validation == corpus.validation


def test_a_folder_of_pairs_is_recognised(tmp_path):
    pair(tmp_path, "Ada", "T1\tPER 0 3\tAda\n")
    assert detect_format(tmp_path) == "brat"
    assert read_file(tmp_path).sentences[0].tags == ("B-PER",)


words = st.lists(st.text("abcåß東é", min_size=1, max_size=4).filter(str.isascii), min_size=1)


@settings(deadline=None)
@given(st.lists(words, min_size=1, max_size=4), st.randoms())
def test_what_is_written_reads_back(tmp_path_factory, lines, random):
    folder = tmp_path_factory.mktemp("brat")
    sentences = []
    for line in lines:
        start = random.randrange(len(line))
        spans = [Span(start, random.randrange(start, len(line)) + 1, random.choice("AB"))]
        tags = tags_from_spans(spans if random.random() < 0.8 else [], len(line))
        sentences.append(Sentence("x", tuple(line), tags))
    write_brat(sentences, folder)
    back = read(folder).sentences
    assert [(s.words, spans_from_tags(s.tags)) for s in back] == [
        (s.words, spans_from_tags(s.tags)) for s in sentences
    ]


def test_a_word_with_a_space_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="the word 'New York' has white space inside"):
        write_brat([Sentence("1", ("New York",), ("O",))], tmp_path)
