"""Counts and orders of training, and groups for prediction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Sentence
from unmask.recipe import PAPER
from unmask.tagging import by_length
from unmask.training.batches import Schedule, encode_split

schedules = st.builds(
    Schedule,
    num_sentences=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 5),
    epochs=st.integers(1, 4),
    max_steps=st.none() | st.integers(1, 40),
)


def test_the_paper_s_counts_on_conll():
    schedule = Schedule.of(PAPER, 14041)
    assert schedule.microbatches_per_epoch == 878
    assert schedule.steps_per_epoch == 220
    assert schedule.num_steps == 1100
    assert schedule.num_microbatches == 5 * 878
    # 878 = 219 windows of four and one of two; the last batch has 9 sentences.
    assert schedule.window_size(877) == schedule.window_size(876) == 2
    assert schedule.window_size(875) == schedule.window_size(878) == 4
    assert len(schedule.indices(877, seed=120)) == 9


@given(schedules)
def test_windows_tile_every_epoch_and_end_in_a_step(schedule):
    steps = 0
    size = 0
    for microbatch in range(schedule.num_microbatches):
        size += 1
        if schedule.ends_window(microbatch):
            steps += 1
            assert schedule.window_size(microbatch) == size <= schedule.accumulation
            assert schedule.microbatches_in(steps) == microbatch + 1
            size = 0
    assert size == 0, "training ends with a step"
    assert steps == schedule.num_steps


@given(schedules, st.integers(0, 2**31))
@settings(max_examples=50)
def test_every_epoch_sees_every_sentence_once_in_an_order_of_its_own(schedule, seed):
    per_epoch = schedule.microbatches_per_epoch
    orders = [
        np.concatenate([schedule.indices(m + epoch * per_epoch, seed) for m in range(per_epoch)])
        for epoch in range(2)
    ]
    for order in orders:
        assert sorted(order.tolist()) == list(range(schedule.num_sentences))
    if schedule.num_sentences > 20:
        assert orders[0].tolist() != orders[1].tolist()


def test_the_order_follows_from_the_seed_alone():
    schedule = Schedule.of(PAPER, 100)
    first = schedule.indices(3, seed=120)
    np.random.default_rng(0)
    assert schedule.indices(3, seed=120).tolist() == first.tolist()
    assert schedule.indices(3, seed=121).tolist() != first.tolist()
    # How steps are counted does not change what is seen when.
    assert Schedule(100, 16, 1, 1).indices(3, seed=120).tolist() == first.tolist()


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="the training split is empty"):
        Schedule.of(PAPER, 0)


def test_a_split_is_encoded_with_tag_ids_in_the_order_of_the_tags(tiny_tokenizer):
    encoder = WordEncoder(tiny_tokenizer)
    sentence = Sentence("1", ("the", "EU"), ("O", "B-ORG"))
    (encoded,) = encode_split([sentence], encoder, ["O", "B-ORG", "I-ORG"], 128)
    assert [label for label in encoded.label_ids if label >= 0] == [0, 1]


lengths = st.lists(st.integers(1, 20), max_size=30)


@given(lengths, st.integers(1, 60))
def test_groups_hold_every_sentence_once_and_no_more_tokens_than_asked(lengths, max_tokens):
    sentences = [EncodedSentence("", (5,) * n, (0,) * n, (0,) * n, 0) for n in lengths]
    groups = list(by_length(sentences, max_tokens))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        tokens = sum(lengths[index] for index in group)
        assert tokens <= max_tokens or len(group) == 1
    longest = [max(lengths[index] for index in group) for group in groups]
    assert longest == sorted(longest)
