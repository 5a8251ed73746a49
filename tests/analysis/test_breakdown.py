"""Breakdowns add up, and agree with spans counted by hand and with the score."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.analysis.breakdown import GoldSentence, break_down, gold_sentences
from unmask.analysis.scoring import sentence_counts
from unmask.data.sentence import Sentence, Span
from unmask.data.tags import spans_from_tags


def sentence(text, *tags, name="s"):
    words = tuple(text.split())
    return Sentence(name, words, tags or ("O",) * len(words))


TRAIN = [sentence("Ann saw Bern", "B-PER", "O", "B-LOC")]
SPLIT = [
    sentence("Ann left Oslo now", "B-PER", "O", "B-LOC", "O"),
    sentence("so did Bo Li", "O", "O", "B-PER", "I-PER"),
    sentence("nothing here"),
]


def test_gold_spans_know_whether_training_has_them_under_the_same_label():
    [first, second, third] = gold_sentences(SPLIT, TRAIN)
    assert first.spans == (Span(0, 1, "PER"), Span(2, 3, "LOC"))
    assert first.seen == (True, False)
    assert second.seen == (False,)
    assert (third.spans, third.seen) == ((), ())
    [other_label] = gold_sentences([sentence("Bern", "B-PER")], TRAIN)
    assert other_label.seen == (False,)


def test_mistakes_of_all_runs_are_added_up_and_sorted():
    gold = gold_sentences(SPLIT, TRAIN)
    right = [list(one.spans) for one in gold]
    wrong = [
        [Span(0, 1, "LOC"), Span(3, 4, "LOC")],  # a label, a miss of Oslo, an invention
        [Span(3, 4, "PER")],  # a boundary
        [],
    ]
    found = break_down(gold, [right, wrong])
    assert found.num_runs == 2
    assert found.num_correct == 3
    assert found.kinds == {"boundary": 1, "label": 1, "missed": 1, "invented": 1}
    assert found.confusions == {("PER", "LOC"): 1}
    assert found.wrong == {0: 3, 1: 1}
    assert found.worst(1) == [0]
    assert found.worst(50) == [0, 1]


def test_recall_is_split_by_what_the_gold_span_is_like():
    gold = gold_sentences(SPLIT, TRAIN)
    found = break_down(gold, [[[Span(0, 1, "PER")], [Span(2, 4, "PER")], []]])
    assert found.recall == {
        "seen in training": {"yes": (1, 1), "no": (1, 2)},
        "words in the span": {"1": (1, 2), "2": (1, 1)},
        "words in the sentence": {"1-10": (2, 3)},
        "words to its left": {"0": (1, 1), "1-5": (1, 2)},
        "words to its right": {"0": (1, 1), "1-5": (1, 2)},
    }


def test_long_spans_and_sentences_fall_in_the_last_stretch():
    words = tuple("abcdefghijklmnopqrstuvwxyzabcdefghijkl")  # 38
    gold = [GoldSentence("s", words, (Span(17, 21, "X"),), (True,))]
    found = break_down(gold, [[[]]])
    assert found.recall["words in the span"] == {"4 or more": (0, 1)}
    assert found.recall["words in the sentence"] == {"31 or more": (0, 1)}
    assert found.recall["words to its left"] == {"16 or more": (0, 1)}
    assert found.recall["words to its right"] == {"16 or more": (0, 1)}


tags = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), min_size=1, max_size=9)


@given(st.lists(st.tuples(tags, tags), min_size=1, max_size=6))
def test_counts_add_up_to_those_of_the_score(pairs):
    pairs = [(gold[: len(pred)], pred[: len(gold)]) for gold, pred in pairs]
    sentences = [Sentence("s", ("w",) * len(gold), tuple(gold)) for gold, _ in pairs]
    found = break_down(
        gold_sentences(sentences, ()), [[spans_from_tags(pred) for _, pred in pairs]]
    )
    counts = sentence_counts([gold for gold, _ in pairs], [pred for _, pred in pairs])
    correct, predicted, gold = (sum(column) for column in zip(*counts, strict=True))
    kinds = found.kinds
    assert found.num_correct == correct
    assert correct + kinds["boundary"] + kinds["label"] + kinds["missed"] == gold
    assert correct + kinds["boundary"] + kinds["label"] + kinds["invented"] == predicted
    assert sum(found.wrong.values()) == sum(kinds.values())
    for answers in found.recall.values():
        assert sum(hits for hits, _ in answers.values()) == correct
        assert sum(total for _, total in answers.values()) == gold


def test_predictions_of_another_split_are_refused():
    with pytest.raises(ValueError, match="3 sentences but predicted spans of 1; they are not of"):
        break_down(gold_sentences(SPLIT, TRAIN), [[[]]])
