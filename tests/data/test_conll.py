import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.conll import column_index, read_conll, read_iob2
from unmask.data.sentence import Sentence
from unmask.data.source import ReadOptions

CONLL03 = """-DOCSTART- -X- O O

U.N. NNP I-NP I-ORG
official NN I-NP O
Ekeus NNP I-NP I-PER
heads VBZ I-VP O

Baghdad NNP I-NP I-LOC
Basra NNP B-NP B-LOC
"""

UNER = """# newdoc id = a
# sent_id = a-1
# text = in tampa bay
1\tin\tO\t-\t-
2\ttampa\tB-LOC\t-\tann
3\tbay\tI-LOC\t-\tann

# sent_id = a-2
1-2\tdon't\tO\t-\t-
1\tdo\tO\t-\t-
2\tn't\tO\t-\t-
"""


@pytest.fixture
def write(tmp_path):
    def write_file(content, name="train.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_conll03_iob1_becomes_iob2_and_says_so(write):
    reading = read_conll(write(CONLL03, "eng.train"), ReadOptions())
    assert reading.sentences == (
        Sentence(
            "eng.train:3", ("U.N.", "official", "Ekeus", "heads"), ("B-ORG", "O", "B-PER", "O")
        ),
        Sentence("eng.train:8", ("Baghdad", "Basra"), ("B-LOC", "B-LOC")),
    )
    assert reading.notes == (
        "eng.train: 2 sentences read as CoNLL columns separated by spaces, tags IOB1 converted to "
        "IOB2",
        "eng.train: left out 1 -DOCSTART- lines",
    )


def test_chunk_column_by_name(write):
    reading = read_conll(write(CONLL03), ReadOptions(column="chunk"))
    assert reading.sentences[0].tags == ("B-NP", "I-NP", "I-NP", "B-VP")
    assert reading.sentences[1].tags == ("B-NP", "B-NP")


@pytest.mark.parametrize(
    "content",
    [
        "a\tB-X\nb\tI-X\n\nc\tO\n",
        "a\tB-X\r\nb\tI-X\r\n\r\nc\tO\r\n",
        "\ufeffa\tB-X\nb\tI-X\n\nc\tO",
        "a\tB-X\nb\tI-X\n\t\n \n\nc\tO\n\n\n",
        "a B-X\nb  I-X \n\nc\tO",
    ],
    ids=["plain", "crlf", "bom-and-no-last-newline", "blank-rows", "spaces"],
)
def test_layouts_of_the_same_two_sentences(write, content):
    reading = read_conll(write(content), ReadOptions())
    assert [(s.words, s.tags) for s in reading.sentences] == [
        (("a", "b"), ("B-X", "I-X")),
        (("c",), ("O",)),
    ]


def test_hash_is_a_comment_or_a_word_by_its_columns(write):
    content = "# a comment\n#tag\tO\n#\tB-X\n# another one\n#no\n\n# id = 3\nx\tO\n"
    reading = read_conll(write(content), ReadOptions())
    assert [s.words for s in reading.sentences] == [("#tag", "#"), ("x",)]
    assert [s.id for s in reading.sentences] == ["train.txt:2", "train.txt:8"]
    assert "train.txt: left out 4 comment lines" in reading.notes


def test_hash_in_files_separated_by_spaces(write):
    reading = read_conll(write("# O\n# not this\nb O\n"), ReadOptions())
    assert reading.sentences[0].words == ("#", "b")


def test_words_may_hold_exotic_line_breaks_and_spaces(write):
    reading = read_conll(write("a\u2028b\tO\nc\u00a0d\tB-X\n"), ReadOptions())
    assert reading.sentences[0].words == ("a\u2028b", "c\u00a0d")


def test_stray_tags_stay_as_they_are_and_are_counted(write):
    path = write("a\tB-X\n\nb\tO\nc\tI-X\n")
    reading = read_conll(path, ReadOptions())
    assert reading.sentences[1].tags == ("O", "I-X")
    assert reading.notes[-1] == (
        "train.txt: 1 stray tags, the first at train.txt:4; strict reading makes no entity of "
        "them (ask for repair to change that)"
    )
    repaired = read_conll(path, ReadOptions(repair=True))
    assert repaired.sentences[1].tags == ("O", "B-X")
    assert repaired.notes[-1].endswith("were repaired into entities, as asked")


def test_spaces_beside_tabs_belong_to_no_word_and_no_label(write):
    reading = read_conll(write("a\tB-X \nb c \t I-X\nd\tO\n"), ReadOptions())
    assert reading.sentences[0].words == ("a", "b c", "d")
    assert reading.sentences[0].tags == ("B-X", "I-X", "O")
    rows = write("1\ta\tB-X \t-\t-\n2\tb \tI-X\t-\t-\n")
    assert read_iob2(rows, ReadOptions()).sentences[0].words == ("a", "b")
    assert read_iob2(rows, ReadOptions()).sentences[0].tags == ("B-X", "I-X")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb\tO\tO\n", r"train\.txt:2: 3 columns separated by TABs, expected 2 as in the"),
        ("a O\n\nb\n", r"train\.txt:3: 1 columns separated by spaces, expected 2"),
        ("a\nb\n", r"train\.txt:1: one column only; expected a word and its tag"),
        ("a O\nb B-X\nc B-\n", r"train\.txt:3: tag 'B-' is neither 'O' nor a prefix and a label"),
        (
            "a O\nb B-X-\n",
            r"train\.txt:2: the label 'X-' of tag 'B-X-' begins or ends with a hyphen",
        ),
        ("a O\nb S-X\nc B-X\n", r"train\.txt:3: tag 'B-X' is not part of a whole BIOES entity"),
        ("\n \n", r"train\.txt: no sentences found when read as CoNLL columns"),
        (b"a\tO\nM\xfcller\tO\n", r"train\.txt:2: byte 0xfc is not UTF-8; convert the file"),
        ("a\tO\n".encode("utf-16"), r"byte 0xff is not UTF-8; .* iconv -f UTF-16 -t UTF-8"),
    ],
)
def test_errors_name_file_and_line(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_conll(write(content), ReadOptions())


def test_bare_labels_are_io(write):
    reading = read_conll(write("a O\nb person\nc person\n"), ReadOptions())
    assert reading.sentences[0].tags == ("O", "B-person", "I-person")
    assert "tags IO converted to IOB2" in reading.notes[0]


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_conll(tmp_path / "nothing.txt", ReadOptions())


@pytest.mark.parametrize(
    ("column", "num_columns", "index"),
    [("ner", 4, 3), ("ner", 2, 1), ("chunk", 3, 2), ("pos", 5, 2), (0, 2, 0), (-1, 3, 2)],
)
def test_columns_by_name_and_index(column, num_columns, index):
    assert column_index(column, num_columns) == index


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (7, "there is no column 7 among 4; give an index between 0 and 3"),
        ("lemma", "unknown column 'lemma'; give an index from 0 or one of word, pos, chunk, ner"),
    ],
)
def test_unknown_column_is_an_error_with_its_line(write, column, message):
    with pytest.raises(ValueError, match=rf"train\.txt:3: {message}"):
        read_conll(write(CONLL03), ReadOptions(column=column))


def test_universal_ner(write):
    reading = read_iob2(write(UNER, "dev.iob2"), ReadOptions())
    assert reading.sentences == (
        Sentence("dev.iob2:4", ("in", "tampa", "bay"), ("O", "B-LOC", "I-LOC")),
        Sentence("dev.iob2:10", ("do", "n't"), ("O", "O")),
    )
    assert "dev.iob2: left out 1 ranges and empty words" in reading.notes


def test_universal_ner_with_missing_columns_is_an_error(write):
    with pytest.raises(ValueError, match=r"dev\.iob2:2: 2 columns separated by TABs, expected 5"):
        read_iob2(write("1\ta\tO\t-\t-\n2\tb\n", "dev.iob2"), ReadOptions())


WORD = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6).filter(
    lambda word: not word.startswith("-DOCSTART-")
)


@given(
    st.lists(
        st.lists(st.tuples(WORD, st.sampled_from(["O", "B-X", "B-Y"])), min_size=1, max_size=5),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["\t", " "]),
)
def test_what_was_written_is_read(tmp_path_factory, sentences, separator):
    path = tmp_path_factory.mktemp("conll") / "train.txt"
    rows = ["\n".join(separator.join(row) for row in sentence) for sentence in sentences]
    path.write_text("\n\n".join(rows), encoding="utf-8")
    reading = read_conll(path, ReadOptions())
    assert [list(zip(s.words, s.tags, strict=True)) for s in reading.sentences] == sentences
