"""Validation after every epoch: early stopping, the best weights, and going on after a kill."""

import re
from dataclasses import replace

import pytest
import torch

from unmask.backbones import load_backbone
from unmask.config import UnmaskConfig
from unmask.data.lookright import generate
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.recipe import load_recipe
from unmask.tagging import predict_tags
from unmask.training.batches import encode_split
from unmask.training.checkpoint import BEST_FILE, Progress, delete_checkpoint
from unmask.training.fit import fit
from unmask.training.module import Trainee
from unmask.training.validation import Watch

NUM_TRAIN, NUM_VALIDATION = 40, 24
RECIPE = replace(load_recipe("tiny", lora_rank=4, epochs=6, learning_rate=2e-2), patience=2)


@pytest.fixture(scope="module")
def corpus():
    return generate()


@pytest.fixture
def train(corpus, tmp_path):
    """`train(recipes, stop_step)`: one run per recipe in a stack, resuming from the last call."""

    def run(recipes=(RECIPE,), stop_step=None, folders=True, watched=True):
        seeds = [120 + index for index in range(len(recipes))]
        model = UnmaskedForTokenClassification(
            load_backbone("tiny", "float32", None, "cpu"),
            corpus.labels,
            [UnmaskConfig.from_code("0110", 8)] * len(recipes),
            LoraSettings(4, 16),
            seeds,
        )
        encoded = encode_split(corpus.train[:NUM_TRAIN], model.encoder, model.tags, 128)
        trainees = [
            Trainee(f"run {seed}", seed, recipe, encoded, Progress(str(seed)), stop_step)
            for seed, recipe in zip(seeds, recipes, strict=True)
        ]
        told: list[str] = []
        watch = Watch(corpus.validation[:NUM_VALIDATION], told.append) if watched else None
        places = [tmp_path / str(seed) for seed in seeds] if folders else None
        fit(model, trainees, places, show_progress=False, watch=watch)
        return model, trainees, told

    return run


def f1_of(model, corpus, run=0):
    from unmask.analysis.scoring import score

    sentences = [()] * model.num_runs
    sentences[run] = corpus.validation[:NUM_VALIDATION]
    tags, _ = predict_tags(model, sentences, 128)[run]
    return score([sentence.tags for sentence in sentences[run]], tags)["f1"]


def test_a_run_that_gains_nothing_stops_when_its_patience_is_over(train):
    _, (trainee,), told = train([replace(RECIPE, learning_rate=1e-12)])
    # The first epoch is the best there will be; two more without a gain end it.
    assert len(trainee.progress.validation_f1) == 3
    assert trainee.progress.stopped
    assert trainee.progress.steps == 3 * 3  # 40 sentences are 3 steps of 16 an epoch
    assert re.match(r"run 120, epoch 1: validation F1 0\.\d{4} \(best so far\)\nlabel ", told[0])
    assert re.search(r"epoch 3: validation F1 \S+, no better for long enough: stopped", told[2])


@pytest.mark.parametrize("folders", [True, False])
def test_the_best_weights_are_kept_not_the_last(train, corpus, folders):
    # A rate this large learns at first and breaks what it learned later.
    model, (trainee,), _ = train([replace(RECIPE, epochs=8, learning_rate=6e-2)], folders=folders)
    curve = trainee.progress.validation_f1
    assert max(curve) > curve[-1], "the last epoch is the best: this tests nothing"
    assert f1_of(model, corpus) == max(curve)


def test_without_patience_nothing_stops_and_the_last_weights_stay(train, corpus):
    model, (trainee,), told = train([replace(RECIPE, patience=None, epochs=4)])
    assert len(told) == 4
    assert not trainee.progress.stopped
    assert f1_of(model, corpus) == trainee.progress.validation_f1[-1]


def test_watching_changes_nothing_of_what_is_learned(train):
    recipe = replace(RECIPE, patience=None, epochs=2)
    watched, _, _ = train([recipe], folders=False)
    alone, _, _ = train([recipe], folders=False, watched=False)
    for name, parameter in watched.stacked_parameters().items():
        assert torch.equal(alone.stacked_parameters()[name], parameter), name


def test_a_run_that_stops_leaves_the_others_of_its_stack_as_they_were(train, corpus, tmp_path):
    slow = replace(RECIPE, learning_rate=1e-12)
    model, (stopped, other), _ = train([slow, RECIPE], folders=False)
    assert len(stopped.progress.validation_f1) == 3 < len(other.progress.validation_f1)
    assert f1_of(model, corpus, 1) == max(other.progress.validation_f1)


def test_a_run_that_was_cut_short_comes_to_the_same_curve_and_weights(train, tmp_path):
    straight, (expected,), _ = train()
    for name in ("120", "121"):
        delete_checkpoint(tmp_path / name)
    train(stop_step=7)  # in the middle of the third epoch
    model, (trainee,), told = train()
    assert trainee.progress.validation_f1 == expected.progress.validation_f1
    assert len(told) == len(expected.progress.validation_f1) - 2
    for name, parameter in straight.stacked_parameters().items():
        assert torch.equal(model.stacked_parameters()[name], parameter), name


def test_a_run_that_pauses_before_its_first_epoch_ends_goes_on_all_the_same(train):
    straight, (expected,), _ = train(folders=False)
    train(stop_step=2)
    model, (trainee,), _ = train()
    assert trainee.progress.validation_f1 == expected.progress.validation_f1
    for name, parameter in straight.stacked_parameters().items():
        assert torch.equal(model.stacked_parameters()[name], parameter), name


def test_a_finished_run_takes_its_best_weights_from_their_file(train, corpus, tmp_path):
    _, (first,), _ = train()
    model, _, told = train()
    assert told == []
    assert f1_of(model, corpus) == max(first.progress.validation_f1)
    (tmp_path / "120" / BEST_FILE).unlink()
    with pytest.raises(ValueError, match=r"best.safetensors is gone, so the best weights of this"):
        train()


def test_a_run_that_ends_within_an_epoch_is_looked_at_there(train):
    _, (trainee,), told = train([replace(RECIPE, max_steps=4)])
    assert len(told) == len(trainee.progress.validation_f1) == 2


def test_patience_without_sentences_to_watch_is_refused(train):
    with pytest.raises(ValueError, match="a recipe with patience needs validation sentences"):
        train(watched=False)
