from dataclasses import replace

import pytest

from unmask.scale.settings import (
    FINETUNING_RECIPE,
    PRETRAINING_RECIPE,
    SMALL,
    Pretraining,
)


def test_the_paper_preset_has_the_published_constants():
    settings, recipe = Pretraining(), PRETRAINING_RECIPE
    shape = (settings.num_layers, settings.hidden_size, settings.num_heads, settings.vocab_size)
    assert shape == (4, 768, 12, 50_265)
    assert (recipe.batch_size, recipe.accumulation, recipe.epochs) == (64, 8, 10)
    assert (recipe.learning_rate, recipe.max_subtokens, recipe.compute_dtype) == (
        2e-4,
        512,
        "bfloat16",
    )
    assert (recipe.beta1, recipe.beta2, recipe.epsilon, recipe.weight_decay) == (
        0.9,
        0.95,
        1e-5,
        0.1,
    )
    assert recipe.max_grad_norm == 1.0
    assert settings.mlm_probability == 0.15
    assert 1 + recipe.epochs * settings.checkpoints_per_epoch == 51
    tuning = FINETUNING_RECIPE
    assert (tuning.batch_size, tuning.accumulation, tuning.epochs) == (16, 1, 5)
    assert recipe.lora_targets == tuning.lora_targets == ()


def test_settings_come_back_from_json():
    assert Pretraining.from_dict(SMALL.to_dict()) == SMALL


def test_the_decoders_shape_is_no_part_of_the_encoders_identity():
    llama = replace(SMALL, decoder_shape="llama")
    assert SMALL.id("encoder", "f") == llama.id("encoder", "f")
    assert SMALL.id("decoder", "f") != llama.id("decoder", "f")
    assert SMALL.id("encoder", "f") != SMALL.id("encoder", "g")
    assert SMALL.id("encoder", "f") != replace(SMALL, seed=1).id("encoder", "f")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_layers": 0}, "--num-layers must be at least 1, got 0"),
        ({"hidden_size": 20}, "--hidden-size 20 does not make 4 heads of an even size"),
        ({"decoder_shape": "gpt"}, "--decoder-shape must be one of roberta, llama, got 'gpt'"),
        ({"checkpoints_per_epoch": 0}, "--checkpoints-per-epoch must be at least 1"),
        ({"mlm_probability": 1.0}, r"mlm_probability must be in \(0, 1\), got 1.0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_flag(changed, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **changed)
