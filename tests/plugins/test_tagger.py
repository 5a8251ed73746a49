from __future__ import annotations

from typing import Any

import pytest
import sklearn.base

from unmask.data import lookright
from unmask.plugins.tagger import UnmaskTagger

clone: Any = sklearn.base.clone
QUICK = {"epochs": 1, "max_steps": 6}


@pytest.fixture(scope="module")
def corpus():
    return lookright.generate(5, 400, 3, 40)


def columns(sentences):
    return [list(s.words) for s in sentences], [list(s.tags) for s in sentences]


def test_fitting_learns_and_the_same_seed_learns_the_same(corpus):
    X, y = columns(corpus.train[:200])
    first = UnmaskTagger(unmask="1111", overrides=QUICK, seed=1).fit(X, y)
    again = clone(first).fit(X, y)
    assert first.train_loss_ == again.train_loss_
    assert first.train_loss_[-1] < 0.7 * first.train_loss_[0]
    words, gold = columns(corpus.test)
    predicted = first.predict(words)
    assert predicted == again.predict(words)
    assert [len(tags) for tags in predicted] == [len(tags) for tags in gold]
    assert 0 <= first.score(words, gold) <= 1


def test_validation_stops_a_tagger_that_gains_no_more_and_keeps_its_best_weights(corpus):
    words, gold = columns(corpus.test)
    overrides = {"epochs": 5, "patience": 1, "learning_rate": 1e-12}
    tagger = UnmaskTagger(unmask="1111", overrides=overrides)
    tagger.fit(*columns(corpus.train[:32]), validation=(words, gold))
    assert len(tagger.validation_f1_) == 2
    assert tagger.score(words, gold) == max(tagger.validation_f1_)
    with pytest.raises(ValueError, match="a recipe with patience needs validation sentences"):
        tagger.fit(*columns(corpus.train[:32]))


def test_empty_sentences_get_no_tags(corpus):
    tagger = UnmaskTagger(overrides={"max_steps": 1}).fit(*columns(corpus.train[:16]))
    assert tagger.predict([[], ["a"], []])[::2] == [[], []]
    assert tagger.predict([]) == []


def test_tags_of_other_schemes_are_converted(corpus):
    tagger = UnmaskTagger(overrides={"max_steps": 1})
    tagger.fit([["Ada", "Lovelace", "met", "Bob"]], [["B-PER", "E-PER", "O", "S-PER"]])
    assert tagger.model_.tags == ("O", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([["a"]], [], "X has 1 sentences but y has 0"),
        ([["a", "b"]], [["O"]], "2 words but 1 tags"),
        ([["a"]], [["O"]], "every tag is O, so there is nothing to learn"),
        ([["a"], ["b"]], [["O"], ["B-"]], r"y\[1\]\[0\]: tag 'B-'"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        UnmaskTagger().fit(X, y)


def test_predicting_before_fitting_is_refused():
    with pytest.raises(ValueError, match=r"not trained: call fit\(X, y\) first"):
        UnmaskTagger().predict([["a"]])


def test_parameters_are_scikit_learns():
    tagger = UnmaskTagger(unmask="0011").set_params(seed=7)
    assert clone(tagger).get_params()["seed"] == 7
    assert clone(tagger).unmask == "0011"
