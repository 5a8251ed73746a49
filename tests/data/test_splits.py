import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.sentence import Corpus, Sentence
from unmask.data.splits import Share, take_split


def corpus_of(num_train, num_validation=0):
    def sentences(split, number):
        return tuple(Sentence(f"{split}:{i}", (f"w{i}",), ("O",)) for i in range(number))

    return Corpus("c", sentences("t", num_train), sentences("v", num_validation), (), ())


@given(st.integers(2, 60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_fraction_parts_the_sentences_at_random_and_keeps_their_order(number, fraction, seed):
    corpus = corpus_of(number)
    expected = round(number * fraction)
    if expected in (0, number):
        return
    parted = take_split(corpus, "validation", f"train:{fraction!r}", seed)
    assert len(parted.validation) == expected
    order = list(corpus.train)
    for part in (parted.train, parted.validation):
        assert sorted(part, key=order.index) == list(part)
    assert set(parted.train) | set(parted.validation) == set(order)
    assert parted == take_split(corpus, "validation", f"train:{fraction!r}", seed)


def test_the_seed_decides_and_is_said():
    parted = [take_split(corpus_of(100), "validation", "train:0.1", seed) for seed in (120, 121)]
    assert parted[0].validation != parted[1].validation
    assert parted[0].notes == (
        "validation: 10 of the 100 train sentences, a random 0.1 of it, seed 120, as asked",
    )


def test_rest14_gets_its_published_sizes():
    parted = take_split(corpus_of(3041), "validation", "train:0.1")
    assert (len(parted.train), len(parted.validation)) == (2737, 304)


def test_a_count_takes_the_last_sentences():
    parted = take_split(corpus_of(5), "validation", "train:2")
    assert [s.id for s in parted.validation] == ["t:3", "t:4"]
    assert [s.id for s in parted.train] == ["t:0", "t:1", "t:2"]
    assert parted.notes == (
        "validation: 2 of the 5 train sentences, the last in file order, as asked",
    )


def test_a_whole_split_moves():
    parted = take_split(corpus_of(0, 3), "train", "dev")
    assert (len(parted.train), parted.validation) == (3, ())


@pytest.mark.parametrize(
    ("request_text", "message"),
    [
        ("train:5", "would take 5 of the 5 sentences of train; both parts need at least one"),
        ("train:9", "would take 5 of the 5 sentences"),
        ("train:0.01", "would take 0 of the 5 sentences"),
        ("test", "would take 0 of the 0 sentences of test"),
        ("train:0", "cannot read 'train:0' as a share of a split; write a split"),
        ("train:1.5", "cannot read 'train:1.5'"),
        ("train:-2", "cannot read"),
        ("train:", "cannot read"),
        ("train:many", "cannot read"),
        ("train:nan", "cannot read"),
        ("everything", "cannot read"),
        ("", "cannot read"),
    ],
)
def test_impossible_shares_are_errors(request_text, message):
    with pytest.raises(ValueError, match=message):
        take_split(corpus_of(5), "validation", request_text)


def test_a_split_that_is_there_is_not_replaced():
    with pytest.raises(ValueError, match="c has a validation split of 2 sentences already; leave"):
        take_split(corpus_of(5, 2), "validation", "train:2")


def test_names_of_splits_are_those_of_files():
    assert Share.parse("valid:3") == Share("validation", count=3)
