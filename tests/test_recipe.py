import json
from dataclasses import replace

import pytest

from unmask.recipe import PAPER, PRESETS, Recipe, load_recipe


def test_the_paper_preset_has_the_published_constants():
    # Dukić and Šnajder (2024), section 4.2 and appendix A.1.
    assert PAPER.to_dict() == {
        "preset": "paper",
        "lora_rank": 64,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "lora_targets": ["q_proj", "v_proj"],
        "head_dropout": 0.1,
        "learning_rate": 2e-4,
        "beta1": 0.9,
        "beta2": 0.95,
        "epsilon": 1e-5,
        "weight_decay": 0.1,
        "optimizer": "paged_adamw_8bit",
        "max_grad_norm": 1.0,
        "batch_size": 16,
        "accumulation": 4,
        "keep_last_microbatch_only": False,
        "epochs": 5,
        "max_steps": None,
        "cosine_steps_factor": 1.0,
        "max_subtokens": 128,
        "quantization": "nf4",
        "compute_dtype": "bfloat16",
        "gradient_checkpointing": True,
    }


def test_as_released_differs_from_the_paper_in_two_places_only():
    changed = {
        name
        for name, value in PRESETS["as_released"].to_dict().items()
        if value != PAPER.to_dict()[name]
    }
    assert changed == {"preset", "keep_last_microbatch_only", "cosine_steps_factor"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_its_name_and_survives_json(name):
    recipe = load_recipe(name)
    assert recipe.preset == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_overrides_replace_fields_and_none_leaves_them():
    recipe = load_recipe("paper", learning_rate=1e-3, epochs=None)
    assert recipe == replace(PAPER, learning_rate=1e-3)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="unknown preset 'papr'; choose one of paper, as_released"):
        load_recipe("papr")


def test_unknown_fields_are_refused_never_ignored():
    with pytest.raises(ValueError, match=r"recipe: unknown fields \['lr'\]; known are \['accumul"):
        Recipe.from_dict({"lr": 1e-3})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_rank": 0}, "lora_rank must be a whole number from 1, got 0"),
        ({"lora_alpha": 0}, "lora_alpha must be a whole number from 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1, got 0"),
        ({"accumulation": 1.5}, "accumulation must be a whole number from 1, got 1.5"),
        ({"epochs": -1}, "epochs must be a whole number from 1, got -1"),
        ({"max_steps": 0}, "max_steps must be a whole number from 1, got 0"),
        ({"max_subtokens": 0}, "max_subtokens must be a whole number from 1, got 0"),
        ({"lora_dropout": 1.0}, r"lora_dropout must be in \[0, 1\), got 1.0"),
        ({"head_dropout": -0.1}, r"head_dropout must be in \[0, 1\), got -0.1"),
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\), got 1.0"),
        ({"beta2": 1.5}, r"beta2 must be in \[0, 1\), got 1.5"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number above 0, got nan"),
        ({"epsilon": 0.0}, "epsilon must be a finite number above 0, got 0.0"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm must be a finite number above 0, got inf"),
        (
            {"cosine_steps_factor": -1.0},
            "cosine_steps_factor must be a finite number above 0, got -1.0",
        ),
        ({"weight_decay": -0.1}, "weight_decay must not be negative, got -0.1"),
        ({"optimizer": "sgd"}, "unknown optimizer 'sgd'; choose one of .*'adamw'"),
        ({"quantization": "int8"}, "quantization must be 'nf4' or None, got 'int8'"),
        ({"compute_dtype": "half"}, "compute_dtype must be one of .*, got 'half'"),
    ],
)
def test_values_out_of_range_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PAPER, **changes)
