import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.scheme import IOB2, IOBES, Entities
from spacy.tokens import Doc
from spacy.training.iob_utils import biluo_tags_to_offsets, iob_to_biluo
from spacy.vocab import Vocab

from unmask.data.sentence import Span
from unmask.data.tags import (
    SCHEMES,
    TagError,
    detect_scheme,
    invalid_positions,
    repair,
    spans_from_tags,
    split_tag,
    tag_names,
    tags_from_spans,
    to_iob2,
)

LABELS = st.sampled_from(["PER", "LOC", "creative-work"])


@st.composite
def sentences(draw, apart=False):
    """(spans, number of words): runs of words, each an entity or not; `apart` keeps a gap."""
    spans, position = [], 0
    for label, length in draw(
        st.lists(st.tuples(st.one_of(st.none(), LABELS), st.integers(1, 4)), min_size=1, max_size=8)
    ):
        if label is not None:
            spans.append(Span(position, position + length, label))
        position += length + (apart and label is not None)
    return tuple(spans), position


def any_tags(prefixes):
    tag = st.builds("{}-{}".format, st.sampled_from(prefixes), st.sampled_from(["PER", "LOC"]))
    return st.lists(st.one_of(st.just("O"), tag), min_size=1, max_size=10)


def seqeval_spans(tags, scheme):
    found = Entities([tags], scheme=scheme).entities[0]
    return tuple(Span(entity.start, entity.end, entity.tag) for entity in found)


@given(sentences(), st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_spans_survive_every_scheme(sentence, scheme):
    spans, num_words = sentence
    assert spans_from_tags(tags_from_spans(spans, num_words, scheme), scheme) == spans


@given(sentences(apart=True))
def test_spans_survive_io_when_no_two_touch(sentence):
    spans, num_words = sentence
    assert spans_from_tags(tags_from_spans(spans, num_words, "IO"), "IO") == spans


@given(sentences(), st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_every_scheme_converts_to_the_same_iob2(sentence, scheme):
    spans, num_words = sentence
    written = tags_from_spans(spans, num_words, scheme)
    assert to_iob2(written, scheme) == tags_from_spans(spans, num_words)


@given(sentences(), st.sampled_from(SCHEMES))
def test_detected_scheme_reads_what_was_written(sentence, scheme):
    spans, num_words = sentence
    written = tags_from_spans(spans, num_words, scheme)
    expected = spans_from_tags(written, scheme)
    assert spans_from_tags(written, detect_scheme([written])) == expected


@given(any_tags("BI"))
def test_strict_iob2_agrees_with_seqeval_on_any_tags(tags):
    assert spans_from_tags(tags, "IOB2") == seqeval_spans(tags, IOB2)


@given(any_tags("BIES"))
def test_strict_bioes_agrees_with_seqeval_on_any_tags(tags):
    assert spans_from_tags(tags, "BIOES") == seqeval_spans(tags, IOBES)


@given(sentences())
def test_iob1_agrees_with_spacy(sentence):
    spans, num_words = sentence
    written = tags_from_spans(spans, num_words, "IOB1")
    biluo = iob_to_biluo(list(written))
    assert spans_from_tags(biluo, "BIOES") == spans


@given(sentences())
def test_bilou_letters_read_as_spacy_reads_them(sentence):
    spans, num_words = sentence
    bilou = [
        tag.replace("E-", "L-", 1) if tag[0] == "E" else tag.replace("S-", "U-", 1)
        for tag in tags_from_spans(spans, num_words, "BIOES")
    ]
    doc = Doc(Vocab(), words=["w"] * num_words)
    offsets = biluo_tags_to_offsets(doc, bilou)
    by_words = tuple(Span(start // 2, end // 2 + 1, str(label)) for start, end, label in offsets)
    assert spans_from_tags(bilou, "BIOES") == by_words == spans


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["I-PER", "I-LOC", "O"], "IO"),
        (["I-PER", "B-PER", "O"], "IOB1"),
        (["B-PER", "I-PER", "O"], "IOB2"),
        (["O", "I-PER", "B-LOC"], "IOB2"),
        (["S-PER", "O"], "BIOES"),
        (["B-PER", "L-PER"], "BIOES"),
        (["person", "O", "creative-work"], "IO"),
        (["O", "O"], "IOB2"),
    ],
)
def test_scheme_is_detected(tags, scheme):
    assert detect_scheme([tags]) == scheme


def test_scheme_belongs_to_the_whole_file():
    assert detect_scheme([["I-PER", "O"], ["I-PER", "B-PER"]]) == "IOB1"
    assert detect_scheme([["I-PER", "O"], ["B-PER", "O"]]) == "IOB2"


def test_neighbours_of_different_labels_are_two_entities_in_iob1():
    assert to_iob2(["I-PER", "I-LOC"], "IOB1") == ("B-PER", "B-LOC")


@pytest.mark.parametrize("tag", ["", " ", "B-", "I- ", "person"])
def test_malformed_tag_is_named_with_its_place(tag):
    with pytest.raises(TagError, match="is neither 'O' nor a prefix and a label") as caught:
        detect_scheme([["O", "B-PER"], ["O", "O", tag]])
    assert (caught.value.sequence, caught.value.position) == (1, 2)


@pytest.mark.parametrize("tag", ["B-X-", "I--X", "B-X ", "S- X", "X-"])
def test_label_that_the_scorer_would_take_for_another_is_refused(tag):
    with pytest.raises(TagError, match="begins or ends with a hyphen or a space; rename") as caught:
        detect_scheme([["O"], ["O", tag]])
    assert (caught.value.sequence, caught.value.position) == (1, 1)


def test_column_without_any_o_is_not_taken_for_tags():
    with pytest.raises(TagError, match="tag 'NNP' is neither"):
        detect_scheme([["NNP", "VBZ"]])


@given(any_tags("BI"))
def test_repair_leaves_nothing_invalid_and_loses_no_tagged_word(tags):
    mended, num_mended = repair(tags)
    assert invalid_positions(mended) == ()
    assert num_mended == len(invalid_positions(tags))
    assert [split_tag(tag)[1] for tag in mended] == [split_tag(tag)[1] for tag in tags]
    assert (mended == tuple(tags)) == (num_mended == 0)


@given(any_tags("BIES"))
def test_repaired_bioes_is_valid_and_keeps_whole_entities_apart(tags):
    mended, num_mended = repair(tags, "BIOES")
    assert invalid_positions(mended) == ()
    assert num_mended == len(invalid_positions(tags, "BIOES"))
    if not num_mended:
        assert spans_from_tags(mended) == spans_from_tags(tags, "BIOES")


@given(any_tags("BI"))
def test_iob1_has_nothing_to_repair(tags):
    assert repair(tags, "IOB1") == (to_iob2(tags, "IOB1"), 0)


@given(any_tags("BI"))
def test_iob2_passes_through_unrepaired(tags):
    assert to_iob2(tags, "IOB2") == tuple(tags)


def test_open_bioes_run_is_an_error():
    with pytest.raises(TagError, match="'B-PER' is not part of a whole BIOES entity") as caught:
        to_iob2(["O", "B-PER", "I-PER", "O"], "BIOES")
    assert caught.value.position == 1


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (
            [Span(0, 2, "A"), Span(1, 3, "B")],
            "spans overlap: 'A' at words 0 to 2 and 'B' at 1 to 3",
        ),
        ([Span(2, 4, "A")], "covers words 2 to 4, which is not a stretch of this sentence of 3"),
        ([Span(1, 1, "A")], "covers words 1 to 1"),
        ([Span(-1, 1, "A")], "covers words -1 to 1"),
    ],
)
def test_impossible_spans_are_errors(spans, message):
    with pytest.raises(ValueError, match=message):
        tags_from_spans(spans, 3)


def test_unknown_scheme_is_an_error():
    with pytest.raises(ValueError, match="unknown tag scheme 'IOB3'; choose one of IOB1, IOB2"):
        spans_from_tags(["O"], "IOB3")


def test_tag_names_are_sorted_with_o_first():
    assert tag_names(["b", "a", "b"]) == ("O", "B-a", "I-a", "B-b", "I-b")
