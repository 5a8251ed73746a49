"""Every gold and every predicted span lands in exactly one class."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.analysis.mistakes import KINDS, find_mistakes, sort_spans
from unmask.analysis.scoring import score
from unmask.data.sentence import Sentence, Span
from unmask.data.tags import spans_from_tags

TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]


@st.composite
def labelled_sentences(draw):
    sentences, predicted = [], []
    for number in range(draw(st.integers(0, 5))):
        length = draw(st.integers(1, 9))
        tags = st.lists(st.sampled_from(TAGS), min_size=length, max_size=length)
        words = draw(st.lists(st.sampled_from("xyz"), min_size=length, max_size=length))
        sentences.append(Sentence(str(number), tuple(words), tuple(draw(tags))))
        predicted.append(draw(tags))
    return sentences, predicted


@given(labelled_sentences())
def test_each_span_is_in_exactly_one_class(pair):
    sentences, predicted = pair
    report = find_mistakes(sentences, predicted)
    gold_spans = Counter(
        (n, s) for n, one in enumerate(sentences) for s in spans_from_tags(one.tags)
    )
    found_spans = Counter((n, s) for n, tags in enumerate(predicted) for s in spans_from_tags(tags))
    wrong_gold = Counter((m.sentence, m.gold) for m in report.mistakes if m.gold)
    wrong_found = Counter((m.sentence, m.predicted) for m in report.mistakes if m.predicted)
    assert gold_spans - wrong_gold == found_spans - wrong_found
    assert (gold_spans & found_spans).total() == report.num_correct
    assert not wrong_gold - gold_spans
    assert not wrong_found - found_spans


@given(labelled_sentences())
def test_counts_add_up_to_the_strict_score(pair):
    sentences, predicted = pair
    report = find_mistakes(sentences, predicted)
    scores = score([one.tags for one in sentences], predicted)
    counts = report.counts
    gold = report.num_correct + counts["boundary"] + counts["label"] + counts["missed"]
    found = report.num_correct + counts["boundary"] + counts["label"] + counts["invented"]
    assert gold == scores["support"]
    assert scores["f1"] == pytest.approx(2 * report.num_correct / max(gold + found, 1))
    assert {kind: sum(of[kind] for of in report.per_label.values()) for kind in KINDS} == counts


@given(labelled_sentences())
def test_seen_and_unseen_cover_the_gold(pair):
    sentences, predicted = pair
    exposure = find_mistakes(sentences, predicted, train=sentences[:1]).recall_by_exposure
    assert exposure is not None
    scores = score([one.tags for one in sentences], predicted)
    assert sum(total for _, total in exposure.values()) == scores["support"]


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ([Span(0, 2, "A")], [Span(0, 2, "A")], []),
        ([Span(0, 2, "A")], [Span(1, 2, "A")], ["boundary"]),
        ([Span(0, 2, "A")], [Span(0, 2, "B")], ["label"]),
        ([Span(0, 2, "A")], [Span(1, 3, "B")], ["missed", "invented"]),
        ([Span(0, 2, "A")], [Span(2, 3, "A")], ["missed", "invented"]),
        ([Span(0, 4, "A")], [Span(0, 1, "A"), Span(1, 4, "A")], ["boundary", "invented"]),
        ([Span(0, 1, "A"), Span(1, 4, "A")], [Span(0, 4, "A")], ["boundary", "missed"]),
        ([], [Span(2, 3, "A")], ["invented"]),
        ([Span(2, 3, "A")], [], ["missed"]),
    ],
)
def test_a_wrong_span_is_named_for_what_is_wrong_with_it(gold, predicted, kinds):
    _, mistakes = sort_spans(gold, predicted)
    assert [mistake.kind for mistake in mistakes] == kinds


def test_the_larger_overlap_is_the_boundary_mistake():
    _, mistakes = sort_spans([Span(0, 4, "A")], [Span(0, 1, "A"), Span(1, 4, "A")])
    assert (mistakes[0].kind, mistakes[0].predicted) == ("boundary", Span(1, 4, "A"))


def test_confusions_name_both_labels_and_worst_sentences_come_first():
    sentences = [
        Sentence("good", ("x",), ("B-A",)),
        Sentence("bad", ("x", "y"), ("B-A", "B-B")),
        Sentence("so-so", ("x", "y"), ("B-A", "O")),
    ]
    report = find_mistakes(sentences, [["B-A"], ["B-B", "O"], ["B-B", "O"]])
    assert report.confusions == {("A", "B"): 2}
    assert report.worst == ((1, 2), (2, 1))
    assert report.to_dict()["confusions"] == [["A", "B", 2]]


def test_recall_is_split_by_length_and_by_where_a_span_begins():
    words = tuple("abcdefghi")
    gold = ("B-A", "O", "B-A", "I-A", "O", "B-A", "I-A", "I-A", "I-A")
    predicted = [["B-A", "O", "B-A", "O", "O", *gold[5:]]]
    report = find_mistakes([Sentence("0", words, gold)], predicted)
    assert report.recall_by_length == {
        "1 word": (1, 1),
        "2 words": (0, 1),
        "3 words": (0, 0),
        "4 words or more": (1, 1),
    }
    expected = {"first third": (1, 2), "second third": (1, 1), "last third": (0, 0)}
    assert report.recall_by_position == expected


def test_an_entity_is_seen_only_with_the_same_words_and_label():
    train = [Sentence("t", ("New", "York"), ("B-LOC", "I-LOC"))]
    sentences = [
        Sentence("0", ("New", "York"), ("B-LOC", "I-LOC")),
        Sentence("1", ("New", "York"), ("B-ORG", "I-ORG")),
        Sentence("2", ("new", "york"), ("B-LOC", "I-LOC")),
    ]
    predicted = [["B-LOC", "I-LOC"], ["B-ORG", "I-ORG"], ["O", "O"]]
    report = find_mistakes(sentences, predicted, train=train)
    assert report.recall_by_exposure == {"seen": (1, 1), "unseen": (1, 2)}
    assert find_mistakes(sentences, predicted).recall_by_exposure is None
    assert find_mistakes(sentences, predicted, train=[]).recall_by_exposure == {
        "seen": (0, 0),
        "unseen": (2, 3),
    }


def test_predictions_of_another_shape_are_refused():
    sentence = Sentence("s7", ("x", "y"), ("O", "O"))
    with pytest.raises(ValueError, match="1 sentences but 0 lists of predicted tags"):
        find_mistakes([sentence], [])
    with pytest.raises(ValueError, match="sentence s7: 2 words but 1 predicted tags"):
        find_mistakes([sentence], [["O"]])
