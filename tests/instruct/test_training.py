from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unmask.backbones import load_causal_lm
from unmask.data.sentence import Sentence
from unmask.instruct import training
from unmask.instruct.encoding import encode_prompt
from unmask.instruct.examples import example_from_sentence
from unmask.instruct.generation import generate_batch
from unmask.instruct.labels import LabelSet
from unmask.instruct.registry import load_system
from unmask.instruct.training import (
    Keeper,
    add_adapter,
    encode_queries,
    load_tuned,
    read_summary,
    save_tuned,
    tune,
)
from unmask.recipe import load_recipe

LABELS = LabelSet(("LOC", "PER"))
PEOPLE, PLACES = ("Vana", "Kana", "Huvi", "Moro"), ("Tallin", "Porto", "Riva", "Lund")
VERBS = ("saw", "left")
SENTENCES = [
    Sentence(f"s{i}", (PEOPLE[i // 2], VERBS[i % 2], PLACES[i % 4]), ("B-PER", "O", "B-LOC"))
    for i in range(8)
]
RECIPE = replace(
    load_recipe("tiny", max_steps=4, max_subtokens=512, batch_size=2, learning_rate=0.01),
    lora_dropout=0.0,
)
PAD = 0
"""The padding token of the embedded tokenizer."""
SETTINGS = {
    "it": {"loss_on": "response"},
    "instructuie": {},
    "uniner": {},
    "hum": {"compound": 0.0},
    "seqgpt": {},
}


def parts(name: str, small_model):
    system = load_system(name, **SETTINGS[name])
    loaded = load_causal_lm(str(small_model), "float32", None, "cpu")
    examples = [example_from_sentence(sentence) for sentence in SENTENCES]
    return system, loaded, examples


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loss_falls_and_the_adapter_comes_back(name, small_model, tmp_path):
    system, loaded, examples = parts(name, small_model)
    queries = list(system.render_all(examples[:3], LABELS, train=True))
    texts = encode_queries(queries, system, loaded.tokenizer, 512)
    model = add_adapter(loaded, RECIPE, seed=1)
    summary = tune(model, texts, system, RECIPE, 1, PAD)
    assert len(summary.losses) == 4
    assert summary.losses[-1] < summary.losses[0]
    assert 0 < summary.num_trained_tokens < summary.num_tokens
    # Both rows at most are in every step, and a step counts what it works through.
    assert summary.num_rows <= RECIPE.batch_size
    assert summary.num_tokens == 4 * sum(len(text.token_ids) for text in texts)
    save_tuned(model, tmp_path, summary)
    again = load_tuned(load_causal_lm(str(small_model), "float32", None, "cpu"), tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model.eval()(ids).logits)
    assert read_summary(tmp_path) == summary


def test_the_same_seed_gives_the_same_losses(small_model):
    def losses(seed):
        system, loaded, examples = parts("it", small_model)
        queries = list(system.render_all(examples[:2], LABELS, train=True))
        texts = encode_queries(queries, system, loaded.tokenizer, 512)
        model = add_adapter(loaded, RECIPE, seed)
        return tune(model, texts, system, RECIPE, seed, 0).losses

    assert losses(3) == losses(3) != losses(4)


def test_only_the_adapter_learns(small_model):
    _, loaded, _ = parts("it", small_model)
    model = add_adapter(loaded, RECIPE, seed=1)
    assert all("lora" in name for name, one in model.named_parameters() if one.requires_grad)


def test_nothing_to_train_on_is_an_error(small_model):
    system, loaded, _ = parts("it", small_model)
    with pytest.raises(ValueError, match="0 queries hold no answer to train on"):
        encode_queries([], system, loaded.tokenizer, 512)


def test_a_folder_without_an_adapter_is_refused(small_model, tmp_path):
    _, loaded, _ = parts("it", small_model)
    with pytest.raises(FileNotFoundError, match="holds no finished adapter"):
        load_tuned(loaded, tmp_path)


def test_as_released_the_rate_hardly_falls():
    recipe = load_recipe("paper", epochs=5, batch_size=16)
    assert load_system("it", mode="official").schedule_length(14041, recipe, 140) == 4390
    assert load_system("it").schedule_length(14041, recipe, 140) == 140


def test_the_released_recipe_does_not_stretch_the_released_schedule_again(small_model):
    recipe = replace(RECIPE, max_steps=4, cosine_steps_factor=4.0)
    assert load_system("it").schedule_length(8, recipe, 4) == 16
    assert load_system("it", mode="official").schedule_length(8, recipe, 4) == 5 * recipe.epochs


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_after", [1, 3])
def test_a_training_that_was_killed_ends_as_if_it_had_not_been(
    small_model, tmp_path, monkeypatch, killed_after
):
    recipe = replace(RECIPE, lora_dropout=0.2, batch_size=1, accumulation=2)

    def trained(keeper):
        system, loaded, examples = parts("it", small_model)
        queries = list(system.render_all(examples[:5], LABELS, train=True))
        texts = encode_queries(queries, system, loaded.tokenizer, 512)
        model = add_adapter(loaded, recipe, seed=1)
        summary = tune(model, texts, system, recipe, 1, PAD, keeper=keeper)
        return summary, {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}

    whole, weights = trained(None)
    keeper = Keeper(tmp_path, "run", seconds_between=0.0)
    write, written = training.write_checkpoint, []

    def write_and_die(*arguments):
        write(*arguments)
        written.append(1)
        if len(written) == killed_after:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_checkpoint", write_and_die)
        with pytest.raises(Killed):
            trained(keeper)
    resumed, weights_after = trained(keeper)
    assert resumed.losses == whole.losses
    assert replace(resumed, seconds=0.0) == replace(whole, seconds=0.0)
    assert all(torch.equal(weights[name], weights_after[name]) for name in weights)
    with pytest.raises(ValueError, match="is a checkpoint of run run, not of other"):
        trained(Keeper(tmp_path, "other"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_random_model_learns_eight_sentences_by_heart(name, small_model):
    system, loaded, examples = parts(name, small_model)
    queries = [
        query
        for example in examples
        for query in system.render(example, LABELS)
        if query.about != "person"
    ]
    texts = encode_queries(queries, system, loaded.tokenizer, 512)
    recipe = replace(RECIPE, max_steps=150, batch_size=4, learning_rate=0.004, weight_decay=0.0)
    model = loaded.model.requires_grad_(True)
    tune(model, texts, system, recipe, 1, PAD)
    prompts = [encode_prompt(query, loaded.tokenizer, 400) for query in queries]
    decoding = replace(system.decoding(), max_new_tokens=40, sample=False, num_beams=1)
    outputs = generate_batch(model, loaded.tokenizer, prompts, decoding)
    scores = system.evaluate(list(zip(queries, outputs, strict=True)))
    assert scores["f1"] == 1.0
