"""Scores against seqeval's documented cases and against spans counted as plain sets."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.analysis.scoring import score, sentence_counts

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-x-y", "I-x-y"]


@st.composite
def gold_and_predicted(draw):
    lengths = draw(st.lists(st.integers(0, 7), max_size=6))

    def side():
        return [
            draw(st.lists(st.sampled_from(TAGS), min_size=length, max_size=length))
            for length in lengths
        ]

    return side(), side()


def spans_by_definition(sentences):
    """{(sentence, start, end, label)}: a B- and the longest run of its own I- after it."""
    found = set()
    for number, tags in enumerate(sentences):
        for start, tag in enumerate(tags):
            if tag[0] != "B":
                continue
            end = start + 1
            while end < len(tags) and tags[end] == "I" + tag[1:]:
                end += 1
            found.add((number, start, end, tag[2:]))
    return found


def f1_of_sets(gold, predicted):
    # 2 |both| / (|gold| + |predicted|), a form of F1 that seqeval does not compute it by.
    return 2 * len(gold & predicted) / max(len(gold) + len(predicted), 1)


def test_spans_that_do_not_open_with_b_score_nothing():
    scores = score([["B-PER", "I-PER", "O", "B-LOC"]], [["I-PER", "I-PER", "O", "I-LOC"]])
    assert scores["f1"] == 0.0
    assert (scores["support"], scores["mode"], scores["scheme"]) == (2, "strict", "IOB2")


def test_micro_average_and_labels_match_the_example_in_the_seqeval_documentation():
    gold = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predicted = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    scores = score(gold, predicted)
    assert scores["f1"] == 0.5
    assert scores["per_label"]["MISC"] == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "support": 1}
    assert scores["per_label"]["PER"] == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 1}
    assert (scores["num_sentences"], scores["num_words"]) == (2, 10)


@given(gold_and_predicted())
def test_scores_agree_with_sets_of_spans(pair):
    gold, predicted = (spans_by_definition(side) for side in pair)
    scores = score(*pair)
    assert scores["f1"] == pytest.approx(f1_of_sets(gold, predicted), abs=1e-12)
    assert scores["precision"] == pytest.approx(len(gold & predicted) / max(len(predicted), 1))
    assert scores["recall"] == pytest.approx(len(gold & predicted) / max(len(gold), 1))
    assert scores["support"] == len(gold)
    assert set(scores["per_label"]) == {span[3] for span in gold | predicted}
    for label, of_label in scores["per_label"].items():
        gold_of, predicted_of = ({s for s in side if s[3] == label} for side in (gold, predicted))
        assert of_label["f1"] == pytest.approx(f1_of_sets(gold_of, predicted_of), abs=1e-12)
        assert of_label["support"] == len(gold_of)


@given(gold_and_predicted())
def test_sentence_counts_add_up_to_the_micro_scores(pair):
    gold, predicted = (spans_by_definition(side) for side in pair)
    columns = [sum(column) for column in zip(*sentence_counts(*pair), strict=True)] or [0, 0, 0]
    assert columns == [len(gold & predicted), len(predicted), len(gold)]


def test_nothing_to_find_and_nothing_found_is_zero_without_a_warning():
    scores = score([["O", "O"], []], [["O", "O"], []])
    assert (scores["f1"], scores["support"], scores["per_label"]) == (0.0, 0, {})


def test_scores_are_plain_numbers_that_json_can_write():
    scores = score([["B-A"]], [["B-A"]])
    assert type(scores["f1"]) is float
    assert type(scores["per_label"]["A"]["support"]) is int


def test_words_lost_to_truncation_cost_recall():
    gold = [["B-A", "O", "B-A"]]
    scores = score(gold, [["B-A", "O", "O"]], num_truncated_words=1)
    assert (scores["recall"], scores["num_truncated_words"], scores["gold"]) == (0.5, 1, "full")


def test_the_way_of_the_reference_drops_cut_words_from_gold():
    gold = [["B-A", "O", "B-A"], ["B-A"]]
    scores = score(gold, [["B-A", "O", "O"], ["O"]], reference_truncation=[1, 0])
    assert (scores["recall"], scores["support"], scores["num_words"]) == (0.5, 2, 3)
    assert (scores["num_truncated_words"], scores["gold"]) == (1, "truncated")


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"]], [], "gold has 1 sentences but predicted has 0"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 1: 2 gold tags but 1 predicted tags"),
        ([["O", "S-A"]], [["O", "O"]], "sentence 0, word 1: gold tag 'S-A' is not IOB2"),
        ([["O"]], [["B-"]], "sentence 0, word 0: predicted tag 'B-' is not IOB2"),
        ([["O"]], [["B"]], "predicted tag 'B' is not IOB2"),
        ([["B-A-"]], [["O"]], "gold tag 'B-A-' is not IOB2.*no hyphen at either end"),
    ],
)
def test_shapes_and_tags_that_cannot_be_scored_are_refused(gold, predicted, message):
    with pytest.raises(ValueError, match=message):
        score(gold, predicted)


@pytest.mark.parametrize(
    ("cut", "message"),
    [([1], "1 numbers for 2 sentences"), ([0, 2], r"reference_truncation\[1\] is 2")],
)
def test_truncation_that_does_not_fit_is_refused(cut, message):
    with pytest.raises(ValueError, match=message):
        score([["O"], ["O"]], [["O"], ["O"]], reference_truncation=cut)


def test_ten_thousand_sentences_take_seconds_not_minutes():
    sentence = ["O"] * 12 + ["B-A", "I-A", "O", "B-B", "O", "B-A", "I-A", "I-A"]
    gold = [sentence] * 10_000
    started = time.perf_counter()
    assert score(gold, gold)["f1"] == 1.0
    # About one second where it was written; ten leaves room for a busy machine.
    assert time.perf_counter() - started < 10
