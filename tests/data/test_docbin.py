import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span

from unmask.data.docbin import read_docbin
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions

NLP = spacy.blank("en")


@pytest.fixture
def read(tmp_path):
    def read_docs(*docs):
        path = tmp_path / "dev.spacy"
        DocBin(docs=docs).to_disk(path)
        return read_docbin(path, ReadOptions())

    return read_docs


def doc_of(words, entities=(), sentence_starts=None):
    doc = Doc(NLP.vocab, words=words, sent_starts=sentence_starts)
    doc.ents = [Span(doc, start, end, label) for start, end, label in entities]
    return doc


def test_entities_are_read_and_white_space_is_no_word(read):
    reading = read(
        doc_of(["I", " ", "saw", "New", "\n", "York"], [(3, 6, "LOC")]), doc_of(["Hello"])
    )
    assert reading.sentences == (
        Sentence("dev.spacy:1", ("I", "saw", "New", "York"), ("O", "O", "B-LOC", "I-LOC")),
        Sentence("dev.spacy:2", ("Hello",), ("O",)),
    )


def test_documents_are_cut_at_their_sentences(read):
    starts = [True, False, True, False]
    reading = read(doc_of(["Ann", "left", "Bob", "stayed"], [(2, 3, "PER")], starts))
    assert [s.words for s in reading.sentences] == [("Ann", "left"), ("Bob", "stayed")]
    assert reading.sentences[1].tags == ("B-PER", "O")


def test_no_entity_is_cut_at_a_sentence_boundary(read):
    reading = read(doc_of(["Yahoo", "!", "Inc"], [(0, 3, "ORG")], [True, False, True]))
    assert reading.sentences[0].tags == ("B-ORG", "I-ORG", "I-ORG")
    assert reading.notes[-1].startswith("dev.spacy: 1 documents kept whole")


def test_documents_without_annotation_are_said(read):
    reading = read(doc_of(["a"]), Doc(NLP.vocab, words=["b"]))
    assert "1 documents never had entities set" in reading.notes[-1]


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "dev.spacy"
    path.write_bytes(b"not a DocBin")
    with pytest.raises(ValueError, match=r"dev\.spacy: not a spaCy DocBin"):
        read_docbin(path, ReadOptions())
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_docbin(tmp_path / "none.spacy", ReadOptions())
