import pytest

from unmask.data.semeval import parse_xml, read_semeval
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<sentences>\n'


def xml(text, *terms, line_break="\n"):
    inner = line_break.join(
        f'<aspectTerm term="{term}" polarity="{polarity}" from="{start}" to="{end}"/>'
        for term, polarity, start, end in terms
    )
    aspects = f"<aspectTerms>{line_break}{inner}</aspectTerms>" if terms else ""
    return f"<sentence id='1'>\n<text>{text}</text>{aspects}\n</sentence>\n"


@pytest.fixture
def read(tmp_path):
    def read_text(*sentences, content=None):
        path = tmp_path / "train.xml"
        path.write_text(content or HEAD + "".join(sentences) + "</sentences>", encoding="utf-8")
        return read_semeval(path, ReadOptions())

    return read_text


def test_terms_become_spans_of_spacy_tokens_with_polarity_as_label(read):
    reading = read(
        xml("But the wait staff wasn&apos;t nice.", ("wait staff", "negative", 8, 18)),
        xml("Fine."),
    )
    assert reading.sentences == (
        Sentence(
            "train.xml:3",
            ("But", "the", "wait", "staff", "was", "n't", "nice", "."),
            ("O", "O", "B-negative", "I-negative", "O", "O", "O", "O"),
        ),
        Sentence(reading.sentences[1].id, ("Fine", "."), ("O", "O")),
    )
    assert len(reading.notes) == 1


def test_terms_that_cannot_be_labelled_are_counted_with_their_line(read):
    reading = read(
        xml("good sushis", ("sushi", "positive", 5, 10), ("good", "conflict", 0, 4)),
        xml("good sushi", ("fish", "positive", 5, 10)),
        xml("rice bowl", ("rice bowl", "neutral", 0, 9), ("rice", "neutral", 0, 4)),
        xml("a", ("a", "neutral", 0, 50)),
        xml("   "),
    )
    assert [s.tags for s in reading.sentences] == [
        ("B-conflict", "O"),
        ("O", "O"),
        ("B-neutral", "I-neutral"),
        ("O",),
    ]
    assert reading.notes[1:] == (
        "train.xml: 2 terms discarded because they do not begin and end where tokens do, the first "
        "at train.xml:5",
        "train.xml: 1 terms discarded because their offsets give other text, the first at "
        "train.xml:10",
        "train.xml: 1 terms discarded because they overlap an earlier one, the first at "
        "train.xml:15",
        "train.xml: 1 sentences without words left out, the first at train.xml:21",
    )


def test_runs_of_spaces_are_no_words_and_shift_no_term(read):
    reading = read(xml("  The  rice  bowl", ("rice  bowl", "neutral", 7, 17)))
    assert reading.sentences[0].words == ("The", "rice", "bowl")
    assert reading.sentences[0].tags == ("O", "B-neutral", "I-neutral")


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE s [<!ENTITY lol "lol">]>',
        '<!DOCTYPE s SYSTEM "file:///elsewhere.dtd">',
        "<!DOCTYPE s>",
    ],
)
def test_document_types_are_refused(read, declaration):
    content = f'<?xml version="1.0"?>\n{declaration}\n<sentences></sentences>'
    with pytest.raises(ValueError, match=r"train\.xml:2: the file declares a document type"):
        read(content=content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEAD + "<sentence></sentences>", r":3: not valid XML: mismatched tag"),
        (HEAD + "<sentence/></sentences>", r":3: this <sentence> has no <text>"),
        (HEAD + "</sentences>", r": no sentences found when read as SemEval-2014"),
        ("<?xml version='1.0' encoding='klingon'?><a/>", r":1: "),
        (
            HEAD + "<sentence><text>a</text>\n<aspectTerm term='a' from='0' to='1'/></sentence>"
            "</sentences>",
            r':4: an <aspectTerm> needs "polarity", "from" and "to"',
        ),
    ],
)
def test_errors_name_the_line(read, content, message):
    with pytest.raises(ValueError, match=r"train\.xml" + message):
        read(content=content)


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        parse_xml(tmp_path / "none.xml")
