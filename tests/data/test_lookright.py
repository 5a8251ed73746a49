from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter, defaultdict
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from unmask.data import lookright
from unmask.data.lookright import causal_ceiling, generate
from unmask.data.sentence import SPLITS, Corpus, Sentence

ALL_TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return generate()


def sentence(text: str) -> Sentence:
    """Read "they met Mira/B-PER"."""
    pairs = [word.partition("/") for word in text.split()]
    words = tuple(word for word, _, _ in pairs)
    return Sentence(text, words, tuple(tag or "O" for _, _, tag in pairs))


def spans(tags: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Strict IOB2 spans: they begin at B- and go on over I- of the same label."""
    found = []
    for start, tag in enumerate(tags):
        if tag.startswith("B-"):
            end = start + 1
            while end < len(tags) and tags[end] == f"I-{tag[2:]}":
                end += 1
            found.append((start, end, tag[2:]))
    return found


def strict_f1(gold: list[tuple[str, ...]], predicted: list[tuple[str, ...]]) -> float:
    correct = num_gold = num_predicted = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        gold_spans, predicted_spans = spans(gold_tags), spans(predicted_tags)
        correct += len(set(gold_spans) & set(predicted_spans))
        num_gold += len(gold_spans)
        num_predicted += len(predicted_spans)
    return 2 * correct / (num_gold + num_predicted)


def best_causal_labeler(
    sentences: list[Sentence], tags: tuple[str, ...]
) -> tuple[float, list[tuple[str, ...]]]:
    """Try every function from prefixes to tags; the best strict F1 and what it predicts."""
    prefixes = sorted({s.words[: end + 1] for s in sentences for end in range(len(s.words))})
    gold = [s.tags for s in sentences]
    best, best_predicted = -1.0, []
    for choice in itertools.product(tags, repeat=len(prefixes)):
        tag_of = dict(zip(prefixes, choice, strict=True))
        predicted = [
            tuple(tag_of[s.words[: end + 1]] for end in range(len(s.words))) for s in sentences
        ]
        f1 = strict_f1(gold, predicted)
        if f1 > best:
            best, best_predicted = f1, predicted
    return best, best_predicted


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        # One group of two twins: guessing is right once and wrong once.
        (["Mira/B-PER sneezed", "Mira/B-LOC flooded"], 1 / 2),
        # With one left-decided entity: (1 + 1) / (1 + 2).
        (["Mira/B-PER sneezed", "Mira/B-LOC flooded", "near Mira/B-LOC"], 2 / 3),
        # Two words: the end is seen, the label still is not.
        (["Mira/B-PER Dek/I-PER sang", "Mira/B-LOC Dek/I-LOC lies"], 1 / 2),
        # A prefix that also stands where nothing is labelled costs a wrong span.
        (["Mira/B-PER sneezed", "Mira was it"], 2 / 3),
        # Guessing Mira would be right in one of four: better to leave her out.
        (["in Solo/B-LOC", "Mira/B-PER sang", "Mira", "Mira", "Mira a"], 2 / 3),
    ],
)
def test_no_causal_labeler_of_all_beats_the_ceiling_and_one_reaches_it(
    texts: list[str], expected: float
):
    sentences = [sentence(text) for text in texts]
    best, predicted = best_causal_labeler(sentences, ALL_TAGS)
    assert causal_ceiling(sentences) == pytest.approx(expected)
    assert best == pytest.approx(expected)
    seqeval_f1 = f1_score(
        [list(s.tags) for s in sentences],
        [list(tags) for tags in predicted],
        mode="strict",
        scheme=IOB2,
    )
    assert seqeval_f1 == pytest.approx(expected)


one_word_sentences = st.lists(
    st.tuples(
        st.lists(st.sampled_from("ab"), max_size=1),
        st.sampled_from("AB"),
        st.sampled_from(("B-LOC", "B-PER", "O")),
    ),
    min_size=1,
    max_size=6,
).filter(lambda drawn: any(tag != "O" for _, _, tag in drawn))


@settings(deadline=None)
@given(one_word_sentences)
def test_the_ceiling_is_what_enumeration_finds_on_random_corpora(drawn):
    sentences = [
        Sentence(str(number), (*before, name), ("O",) * len(before) + (tag,))
        for number, (before, name, tag) in enumerate(drawn)
    ]
    best, _ = best_causal_labeler(sentences, ("O", "B-LOC", "B-PER"))
    assert causal_ceiling(sentences) == pytest.approx(best)


@settings(deadline=None)
@given(st.integers(0, 6), st.integers(1, 6), st.integers(2, 5))
def test_the_ceiling_of_twins_has_the_closed_form(num_left, num_groups, num_twins):
    left = [sentence(f"near Name{n}/B-T0") for n in range(num_left)]
    twins = [
        sentence(f"Twin{group}/B-T{label} says{label}")
        for group in range(num_groups)
        for label in range(num_twins)
    ]
    right = num_groups * num_twins
    abstain = 2 * num_left / (2 * num_left + right)
    predict = (num_left + num_groups) / (num_left + right)
    assert causal_ceiling(left + twins) == pytest.approx(max(abstain, predict))


def test_a_ceiling_without_entities_is_an_error():
    with pytest.raises(ValueError, match="undefined: no sentence has an entity"):
        causal_ceiling([sentence("nothing here")])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_default_ceiling_is_two_thirds_on_every_split(seed: int):
    corpus = generate(seed)
    for split in SPLITS:
        assert causal_ceiling(corpus.split(split)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("right_fraction", [0.0, 0.25, 0.75, 1.0])
def test_equal_proportions_give_equal_ceilings(right_fraction: float):
    corpus = generate(3, 240, 120, 60, right_fraction=right_fraction)
    num_twins = len(lookright.LABELS)
    left, groups = 1 - right_fraction, right_fraction / num_twins
    expected = max(2 * left / (2 * left + right_fraction), left + groups)
    for split in SPLITS:
        assert causal_ceiling(corpus.split(split)) == pytest.approx(expected)


def test_there_are_as_many_entities_as_sentences(corpus: Corpus):
    for split, size in zip(SPLITS, (1200, 240, 240), strict=True):
        sentences = corpus.split(split)
        assert len(sentences) == size
        assert sum(len(spans(s.tags)) for s in sentences) == size


def test_equal_prefixes_carry_one_label_or_all_labels_equally_often(corpus: Corpus):
    for split in SPLITS:
        labels = defaultdict(Counter)
        sharing = Counter()
        for s in corpus.split(split):
            sharing.update(s.words[: end + 1] for end in range(len(s.words)))
            for start, _, label in spans(s.tags):
                labels[s.words[: start + 1]][label] += 1
        twins = [counts for counts in labels.values() if len(counts) > 1]
        assert len(twins) == len(corpus.split(split)) / 2 / len(lookright.LABELS)
        assert all(counts == dict.fromkeys(lookright.LABELS, 1) for counts in twins)
        assert all(counts.total() == sharing[prefix] for prefix, counts in labels.items())


def test_a_group_of_twins_begins_as_no_group_of_another_split_does(corpus: Corpus):
    def beginnings(split: str) -> set[tuple[str, ...]]:
        counts = Counter(
            s.words[: start + 1] for s in corpus.split(split) for start, _, _ in spans(s.tags)
        )
        return {prefix for prefix, count in counts.items() if count == len(lookright.LABELS)}

    train, validation, test = (beginnings(split) for split in SPLITS)
    assert not train & validation
    assert not (train | validation) & test


def test_splits_share_no_sentence_and_none_is_repeated(corpus: Corpus):
    words = [s.words for split in SPLITS for s in corpus.split(split)]
    assert len(set(words)) == len(words)


def test_a_good_part_of_the_names_is_unseen_in_training(corpus: Corpus):
    def names(split: str) -> list[tuple[str, ...]]:
        return [s.words[start:end] for s in corpus.split(split) for start, end, _ in spans(s.tags)]

    known_words = {word for name in names("train") for word in name}
    for split in ("validation", "test"):
        unseen = [name for name in names(split) if set(name) - known_words]
        assert 0.3 < len(unseen) / len(names(split)) < 0.7


def test_names_tell_the_end_of_an_entity_but_nothing_of_its_label(corpus: Corpus):
    first, last = set(), set()
    labels_of = defaultdict(Counter)
    for s in corpus.train:
        for start, end, label in spans(s.tags):
            first.add(s.words[start])
            last.update(s.words[start + 1 : end])
            labels_of[s.words[start]][label] += 1
            assert end - start <= 2
            assert end == len(s.words) or s.words[end].islower()
    outside = {
        w for s in corpus.train for w, tag in zip(s.words, s.tags, strict=True) if tag == "O"
    }
    assert not first & last
    assert not (first | last) & outside
    # Guessing each name's most frequent label is hardly better than one in three.
    guessed = sum(max(counts.values()) for counts in labels_of.values())
    assert guessed / sum(counts.total() for counts in labels_of.values()) < 0.55


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another(corpus: Corpus):
    assert generate().fingerprint() == corpus.fingerprint() == "15e6c30ba70dfe02"
    assert generate(1).fingerprint() != corpus.fingerprint()


def test_only_the_promised_part_of_random_is_used():
    # Other methods of random.Random may draw differently on another version of Python.
    only_random = SimpleNamespace(random=random.Random(0).random)
    assert lookright.Writer(cast(random.Random, only_random)).write(48, right_fraction=0.5)


def test_the_notes_state_seed_and_ceiling(corpus: Corpus):
    assert "seed 0" in corpus.notes[0]
    assert "0.667 on validation" in corpus.notes[1]


@pytest.mark.parametrize("right_fraction", [-0.1, 1.5])
def test_a_right_fraction_outside_its_range_is_named(right_fraction: float):
    with pytest.raises(ValueError, match=f"between 0 and 1, got {right_fraction}"):
        generate(right_fraction=right_fraction)


def test_a_split_too_small_is_named():
    with pytest.raises(ValueError, match=r"num_test must be at least 3.* got 2"):
        generate(num_test=2)


def test_more_groups_than_there_are_beginnings_is_an_error_not_an_endless_loop():
    with pytest.raises(ValueError, match="ask lookright for fewer sentences"):
        generate(num_train=20_000, right_fraction=1.0)


def test_generation_needs_no_torch():
    code = "import sys, unmask.data.lookright as l; l.generate(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
