"""From text to spans: offsets that hold, windows that lose nothing, tags that are valid."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.data.alignment import WordEncoder
from unmask.data.tags import invalid_positions, tag_names
from unmask.predict import decode_iob2, predict_texts

TAGS = tag_names(["LOC", "PER"])


@pytest.fixture(scope="module")
def encoder(tiny_tokenizer):
    return WordEncoder(tiny_tokenizer)


def score_by_tokens(sentences):
    """A made-up model: a word's probabilities follow from its first token alone.

    What a window shows of a word's surroundings then changes nothing, so any two ways of cutting
    a text must agree.
    """
    tables = []
    for sentence in sentences:
        first = [
            token
            for token, label in zip(sentence.token_ids, sentence.label_ids, strict=True)
            if label >= 0
        ]
        generators = [torch.Generator().manual_seed(token) for token in first]
        rows = [torch.randn(len(TAGS), generator=g).mul(2).softmax(0) for g in generators]
        tables.append(torch.stack(rows))
    return tables


def predict(encoder, inputs, score=score_by_tokens, max_subtokens=128, **settings) -> Any:
    return predict_texts(inputs, encoder, score, TAGS, max_subtokens, **settings)


TEXTS = [
    "EU rejects German call to boycott British lamb.",
    "Peter Blackburn,\r\nBRUSSELS\t1996-08-22\r\n",
    "  leading   and trailing  spaces \n\n",
    "🎉 party in 東京 with 👩‍👩‍👧‍👦 and 🇩🇪!",
    "Zoe\u0308 loves cafe\u0301s in Sa\u0303o Paulo",
    "קפה בתל אביב, مع أصدقاء في القاهرة",
    "नई दिल्ली में बैठक",
    "zero\u200bwidth non\u00a0breaking \ufeffBOM",
    "\U0001d518\U0001d52b\U0001d526 letters beyond 16 bits",
    "a" * 3000,
    "O'Brien's e-mail: bob@example.com (see http://x.y/z?q=1)",
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:12].encode("ascii", "replace"))
def test_offsets_hold_on_text_of_any_script(encoder, text):
    found = predict(encoder, text)
    assert found, "a text without a span proves nothing"
    for span in found:
        assert text[span["start"] : span["end"]] == span["text"]
        assert span["text"].strip() == span["text"] != ""
        assert span["label"] in ("LOC", "PER")
        assert 0 < span["score"] <= 1


@settings(deadline=None, max_examples=100)
@given(text=st.text(max_size=60))
def test_offsets_hold_on_any_text(encoder, text):
    found = predict(encoder, text)
    ends = [0]
    for span in found:
        assert text[span["start"] : span["end"]] == span["text"]
        assert span["start"] >= ends[-1], "spans are in order and do not overlap"
        ends.append(span["end"])


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(
        st.sampled_from(["EU", "rejects", "boycott", "Blackburn", ".", "Zürich"]), max_size=60
    ),
    max_subtokens=st.integers(6, 40),
    overlap=st.integers(0, 5),
    batch_size=st.integers(1, 5),
)
def test_windows_lose_no_word_and_change_no_prediction(
    encoder, words, max_subtokens, overlap, batch_size
):
    text = " ".join(words)
    whole = predict(encoder, [text], max_subtokens=10_000)
    cut = predict(
        encoder, [text], max_subtokens=max_subtokens, overlap=overlap, batch_size=batch_size
    )
    assert cut == whole


def test_the_work_of_cutting_windows_grows_with_the_text_only(tiny_tokenizer):
    class Counting(WordEncoder):
        num_words = 0

        def encode_words(self, words, max_subtokens):
            self.num_words += len(words)
            return super().encode_words(words, max_subtokens)

    encoder, words = Counting(tiny_tokenizer), ["EU"] * 6000
    predict(encoder, [words], max_subtokens=64, batch_size=64)
    # Each window is offered 64 words, keeps 21 ("EU" is three sub-tokens) and shares 5 of them.
    assert encoder.num_words < 5 * len(words)


def test_every_word_is_scored_in_the_window_that_sees_most_around_it(encoder):
    seen = {}

    def score(sentences):
        tables = []
        for sentence in sentences:
            first = [i for i, label in enumerate(sentence.label_ids) if label >= 0]
            # The probability of B-LOC tells how many words stand around a word in its window.
            around = [min(i, len(first) - 1 - i) for i in range(len(first))]
            table = torch.zeros(len(first), len(TAGS), dtype=torch.float64)
            table[:, TAGS.index("B-LOC")] = torch.tensor(around) / 100 + 0.01
            seen.setdefault("windows", []).append(len(first))
            tables.append(table)
        return tables

    words = ["the"] * 40
    assert len(encoder.encode_word("the")) == 1
    found = predict(encoder, [words], score, max_subtokens=12, overlap=6)[0]
    around = [round(span["score"] * 100 - 1) for span in found]
    assert len(seen["windows"]) > 3
    assert len(around) == 40
    # Six shared words: a word away from the ends of the text always has three on either side.
    assert min(around[3:-3]) >= 2
    assert around[:3] == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "   ", "\r\n\t", "\u200b"])
def test_a_text_without_words_has_no_spans_and_is_not_scored(encoder, text):
    def score(sentences):
        raise AssertionError("nothing to score")

    assert predict(encoder, text, score) == []
    assert predict(encoder, [text, text], score) == [[], []]


def test_no_texts_give_no_lists(encoder):
    assert predict(encoder, []) == []


def test_a_list_gives_for_each_text_what_it_gives_alone_in_order(encoder):
    together = predict(encoder, TEXTS, batch_size=3)
    assert together == [predict(encoder, text) for text in TEXTS]


def test_pre_split_words_bring_word_places_and_offsets_into_the_joined_text(encoder):
    words = ["EU", "rejects", "German", "call", "New York", "."]
    joined = " ".join(words)
    (found,) = predict(encoder, [words])
    assert found
    for span in found:
        assert joined[span["start"] : span["end"]] == span["text"]
        assert " ".join(words[span["word_start"] : span["word_end"]]) == span["text"]


def test_running_text_brings_no_word_places(encoder):
    assert all("word_start" not in span for span in predict(encoder, TEXTS[0]))


def test_a_score_is_the_mean_probability_of_its_words_tags(encoder):
    def score(sentences):
        table = torch.full((3, len(TAGS)), 0.01)
        table[0, TAGS.index("B-PER")] = 0.9
        table[1, TAGS.index("I-PER")] = 0.6
        table[2, TAGS.index("O")] = 0.8
        return [table]

    (found,) = predict(encoder, [["Peter", "Blackburn", "sleeps"]], score)
    assert [(s["text"], s["label"]) for s in found] == [("Peter Blackburn", "PER")]
    assert found[0]["score"] == pytest.approx(0.75)


@pytest.mark.parametrize("words", [["EU", ""], ["EU", "  "], ["EU", None], ["EU", 5]])
def test_words_that_are_empty_or_no_strings_are_refused(encoder, words):
    with pytest.raises(
        ValueError, match=r"a list of words holds .*; every word must be a non-empty"
    ):
        predict(encoder, [words])


@pytest.mark.parametrize("overlap", [-1, 8, 100])
def test_an_overlap_that_does_not_fit_is_refused(encoder, overlap):
    with pytest.raises(
        ValueError, match=f"overlap must be between 0 and 7 sub-tokens, got {overlap}"
    ):
        predict(encoder, "EU", max_subtokens=8, overlap=overlap)


@pytest.mark.parametrize(("max_subtokens", "shared"), [(200, 32), (128, 32), (16, 4), (1, 0)])
def test_windows_share_32_sub_tokens_or_a_quarter_of_a_short_window(encoder, max_subtokens, shared):
    def sizes(**settings):
        found = []

        def score(sentences):
            found.extend(len(sentence.token_ids) for sentence in sentences)
            return score_by_tokens(sentences)

        predict(encoder, [["the"] * 300], score, max_subtokens, **settings)
        return found

    assert sizes() == sizes(overlap=shared)
    assert max_subtokens == 1 or sizes() != sizes(overlap=shared + 1)


def test_an_empty_batch_is_refused(encoder):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        predict(encoder, "EU", batch_size=0)


probability_tables = st.integers(1, 4).flatmap(
    lambda words: st.lists(
        st.lists(st.floats(0.001, 1), min_size=len(TAGS), max_size=len(TAGS)),
        min_size=words,
        max_size=words,
    )
)


@settings(deadline=None, max_examples=60)
@given(probability_tables)
def test_decoding_finds_the_best_of_all_valid_sequences(table):
    scores = np.log(np.array(table))
    path = decode_iob2(scores, TAGS)
    assert is_valid(path)
    best = max(
        sum(scores[word, tag] for word, tag in enumerate(candidate))
        for candidate in product(range(len(TAGS)), repeat=len(table))
        if is_valid(candidate)
    )
    assert sum(scores[word, tag] for word, tag in enumerate(path)) == pytest.approx(best)


def is_valid(path):
    return invalid_positions([TAGS[tag] for tag in path]) == ()


def test_decoding_takes_the_likeliest_tags_where_they_are_valid_already():
    tags = ["B-PER", "I-PER", "O", "B-LOC", "B-LOC"]
    scores = np.full((5, len(TAGS)), -5.0)
    for word, tag in enumerate(tags):
        scores[word, TAGS.index(tag)] = -0.1
    assert [TAGS[tag] for tag in decode_iob2(scores, TAGS)] == tags


def test_probabilities_of_zero_do_not_blank_the_rest_of_a_text(encoder):
    """A model so sure of an I- tag at the start that float32 leaves nothing for the others."""

    def score(sentences):
        table = torch.zeros(3, len(TAGS))
        table[0, TAGS.index("I-PER")] = 1
        table[1, TAGS.index("O")] = 1
        table[2, TAGS.index("B-LOC")] = 1
        return [table]

    (found,) = predict(encoder, [["Peter", "in", "Rome"]], score)
    assert [(span["text"], span["label"]) for span in found] == [("Rome", "LOC")]
