"""Settings from a YAML file: laid under the command line, refused with the file's name."""

import argparse

import pytest
import yaml

from unmask.config_file import parse
from unmask.sweep.__main__ import add_flags, recipe_from


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser


@pytest.fixture
def write(tmp_path):
    def make(text: str) -> str:
        path = tmp_path / "settings.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return make


def test_a_file_is_read_as_flags_and_the_command_line_goes_over_it(parser, write):
    path = write(
        'model: smollm2-135m\nconfigs: ["0000", "0110"]\nseeds: [7, 8]\nlimit-train: 256\n'
        "repair: true\nhalving: false\ndata_dir: null\nrecipe: {preset: quick, beta2: 0.98}\n"
    )
    arguments = parse(parser, ["--config", path, "--seeds", "9"])
    assert arguments.model == "smollm2-135m"
    assert arguments.configs == ("0000", "0110")
    assert arguments.seeds == (9,)
    assert (arguments.limit_train, arguments.repair, arguments.halving) == (256, True, False)
    recipe = recipe_from(arguments)
    assert (recipe.preset, recipe.beta2, recipe.learning_rate) == ("quick", 0.98, 2e-3)


def test_a_set_of_layers_may_stand_in_a_file(parser, write):
    path = write('configs: ["layers:0,1", "0110"]\n')
    assert parse(parser, ["--config", path]).configs == ("layers:0,1", "0110")


def test_dotted_fields_go_over_flags_and_flags_over_the_file(parser, write):
    path = write("recipe: {learning_rate: 1e-4, epochs: 3, lora_targets: [q_proj]}\n")
    argv = ["--config", path, "--epochs", "4", "--batch-size=2"]
    arguments = parse(parser, [*argv, "--recipe.epochs=5", "--recipe.learning-rate", "1e-3"])
    recipe = recipe_from(arguments)
    assert (recipe.epochs, recipe.learning_rate, recipe.batch_size) == (5, 1e-3, 2)
    assert recipe.lora_targets == ("q_proj",)
    assert recipe_from(parse(parser, argv)).epochs == 4
    assert recipe_from(parse(parser, argv)).learning_rate == 1e-4


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--configs", "0000,0110", "--seeds", "1", "--quantization", "none", "--patience", "2"],
        ["--configs", "layers:0,1-2", "--preset", "quick", "--checkpoint-seconds", "0"],
        ["--search", "--trials", "9", "-d", "some where", "--recipe.beta1", "0.8"],
    ],
)
def test_what_print_config_prints_gives_the_same_settings(parser, write, argv, capsys):
    from unmask.cli import main

    main(["sweep", *argv, "--print-config"])
    printed = capsys.readouterr().out
    first, second = parse(parser, argv), parse(parser, ["--config", write(printed)])
    assert recipe_from(second) == recipe_from(first)
    for name, value in vars(first).items():
        if name not in (
            "config",
            "preset",
            "recipe_file",
            "recipe_dotted",
            *yaml.safe_load(printed)["recipe"],
        ):
            assert getattr(second, name) == value, name


def test_train_reads_a_file_too(write, capsys):
    from unmask.cli import main

    path = write('unmask: "0110"\nseed: 5\nrecipe: {epochs: 2}\n')
    main(["train", "--config", path, "--print-config", "--seed", "6"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["unmask"], printed["seed"], printed["recipe"]["epochs"]) == ("0110", 6, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "is not readable YAML"),
        ("- a\n- list\n", "must hold keys and values, such as model: tiny"),
        ("modell: tiny\n", "'modell' is no setting; known are .*model, .*recipe"),
        ("debug: true\n", "'debug' is no setting"),
        ("configs: [0110]\n", 'configs must be codes in quotes, such as "0110".*here \\[72\\]'),
        ("seeds: {a: 1}\n", "seeds must be a value or a list of values"),
        ("recipe: [a]\n", "recipe must hold fields and their values"),
        ("!!python/object/apply:os.system [exit]\n", "is not readable YAML"),
        ("[" * 5000, "is not readable YAML"),
        ("a: 1\n" * 300_000, "is larger than 1048576 bytes, too large for settings"),
    ],
    ids=lambda text: text[:20],
)
def test_a_file_that_says_something_else_is_refused_by_name(parser, write, text, message):
    path = write(text)
    with pytest.raises(ValueError, match=f"settings.yaml:? {message}"):
        parse(parser, ["--config", path])


def test_a_file_that_is_not_there_is_named(parser):
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.yaml; give a YAML file"):
        parse(parser, ["--config=nowhere.yaml"])


def test_a_dotted_field_without_a_value_is_a_usage_error(parser, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(parser, ["--recipe.beta2"])
    assert "argument --recipe.beta2: expected one value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dotted", "message"),
    [
        ("--recipe.momentum=1", r"unknown fields \['momentum'\]"),
        ("--recipe.learning_rate=much", "learning_rate must be a number, got 'much'"),
        ("--recipe.gradient_checkpointing=maybe", "gradient_checkpointing must be true or false"),
        ("--recipe.lora_targets=q_proj", "lora_targets must be a list of names, got 'q_proj'"),
        ("--recipe.epochs=2.5", "epochs must be a whole number from 1, got 2.5"),
        ("--recipe.patience=0", "patience must be a whole number from 1, got 0"),
    ],
)
def test_a_field_that_cannot_be_is_named(parser, dotted, message):
    with pytest.raises(ValueError, match=message):
        recipe_from(parse(parser, [dotted]))
