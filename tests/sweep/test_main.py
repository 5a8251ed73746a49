"""The command `python -m unmask.sweep`: its flags, and how it ends when something is wrong."""

import argparse
from pathlib import Path

import pytest
from rich.console import Console

from unmask.config import gray_codes
from unmask.recipe import PRESETS
from unmask.results.ledger import Ledger
from unmask.sweep.__main__ import add_flags, main, one_by_one, recipe_from, settings_from


def parsed(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return parser.parse_args(argv)


def settings_of(*argv: str):
    [only] = one_by_one(parsed(*argv))
    return settings_from(only, Console(stderr=True))


def test_without_flags_it_is_the_embedded_corpus_and_backbone():
    settings = settings_of()
    assert (settings.model, settings.task, settings.baselines) == ("tiny", "lookright", ())
    assert settings.configs == gray_codes(4)
    assert settings.seeds == (120, 121, 122, 123, 124)
    assert settings.recipe == PRESETS["tiny"]
    assert settings.out == Path("results/tiny-lookright")
    assert settings.fuse is None


def test_a_flag_of_the_recipe_overrides_its_preset():
    recipe = recipe_from(parsed("--preset", "quick", "--lora-rank", "8", "--max-steps", "7"))
    assert (recipe.preset, recipe.lora_rank, recipe.max_steps) == ("quick", 8, 7)
    assert recipe.learning_rate == PRESETS["quick"].learning_rate


def test_preset_is_the_papers_for_every_backbone_but_tiny():
    assert recipe_from(parsed("--model", "mistral-7b")) == PRESETS["paper"]
    assert recipe_from(parsed("--model", "mistral-7b", "--quantization", "none")).quantization is (
        None
    )
    assert recipe_from(parsed("--no-gradient-checkpointing")).gradient_checkpointing is False


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("0000,0110", ("0000", "0110")),
        ("layers:0,1,5-7", ("layers:0,1,5-7",)),
        ("0000;layers:0,1;layers:2", ("0000", "layers:0,1", "layers:2")),
        (" 0000 , 1111 ", ("0000", "1111")),
    ],
)
def test_codes_are_separated_by_commas_and_layer_sets_by_semicolons(text, codes):
    assert parsed("--configs", text).configs == codes


def test_hub_ids_and_folders_become_one_folder_name(tmp_path):
    (tmp_path / "model").mkdir()
    [hub] = one_by_one(parsed("--model", "owner/name", "--task", "t"))
    [local] = one_by_one(parsed("--model", str(tmp_path / "model"), "--task", "t"))
    assert (hub.out, local.out) == (Path("results/owner--name-t"), Path("results/model-t"))


def test_several_models_and_tasks_are_every_pair_of_them_in_one_folder(tmp_path):
    flags = parsed("--model", "a/b,c/d", "--task", "x, y", "--data-dir", str(tmp_path))
    pairs = one_by_one(flags)
    assert [(one.model, one.task) for one in pairs] == [
        ("a/b", "x"),
        ("c/d", "x"),
        ("a/b", "y"),
        ("c/d", "y"),
    ]
    assert {one.out for one in pairs} == {Path("results/a--b+c--d-x+y")}
    assert [one.data_dir for one in pairs] == [tmp_path / task for task in ("x", "x", "y", "y")]


@pytest.mark.parametrize(
    ("there", "baselines", "num_notes"),
    [
        ({"roberta-base", "roberta-large", "minilm-l6"}, ("roberta-base", "roberta-large"), 0),
        ({"roberta-base", "minilm-l6"}, ("minilm-l6",), 1),
        (set(), (), 2),
    ],
)
def test_automatic_baselines_are_what_can_be_had_and_say_what_not(
    monkeypatch, capsys, there, baselines, num_notes
):
    def find(name):
        if name not in there | {"mistral-7b"}:
            raise FileNotFoundError(f"no {name}")

    monkeypatch.setattr("unmask.backbones.find_weights", find)
    assert settings_of("--model", "mistral-7b").baselines == baselines
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == num_notes
    assert all(note.startswith("note: no baseline ") for note in notes)


def test_named_baselines_are_taken_as_they_are():
    assert settings_of("--baselines", "roberta-base, minilm-l6").baselines == (
        "roberta-base",
        "minilm-l6",
    )
    assert settings_of("--baselines", "none").baselines == ()


def test_results_go_to_stdout_and_everything_else_to_stderr(small, capsys, tmp_path):
    main(small)
    said = capsys.readouterr()
    out = tmp_path / "out"
    tables = ("report.tex", "configurations.csv", "runs.csv")
    written = [str(out / name) for name in ("report.html", "report.md", *tables, "figure.png")]
    lines = said.out.splitlines()
    table = lines[: -len(written)]
    assert lines[-len(written) :] == written
    assert all(Path(path).stat().st_size > 0 for path in written)
    assert any("0000" in line for line in table)
    assert any("0110" in line for line in table)
    lines = said.err.splitlines()
    done = next(line for line in lines if line.startswith("done: "))
    assert done.startswith("done: tiny/small/0000/seed120, validation F1 0.")
    # One line each, however narrow the terminal: a log can be searched.
    assert sum(line.startswith("recipe: preset=tiny, ") for line in lines) == 1


def test_dry_run_says_what_there_is_to_do_and_writes_nothing(small, capsys, tmp_path):
    main([*small, "--dry-run"])
    runs = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1:] for line in runs[:2]] == [
        ["to do", "tiny/small/0000/seed120"],
        ["to do", "tiny/small/0110/seed120"],
    ]
    assert runs[2] == "tiny: 2 of 2 runs to do"
    assert runs[3].startswith("estimated per run: ")
    assert runs[4].startswith("estimated memory: ")
    assert "2 runs at a time" in runs[4]
    assert not (tmp_path / "out").exists()


def test_dry_run_tells_done_from_missing_runs(small, capsys, without_pages):
    main(small)
    capsys.readouterr()
    main([*small, "--seeds", "120,121", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[18:23] for line in lines[:4]] == ["done ", "done ", "to do", "to do"]
    assert lines[4] == "tiny: 2 of 4 runs to do"
    main([*small, "--dry-run"])
    assert capsys.readouterr().out.splitlines()[-1] == "tiny: 0 of 2 runs to do"


def test_several_rates_and_ranks_are_every_pair_of_them_in_one_folder():
    flags = ("--learning-rates", "1e-4,2e-4", "--lora-ranks", "8,16")
    console = Console(stderr=True)
    found = [settings_from(one, console) for one in one_by_one(parsed(*flags))]
    assert [(one.recipe.lora_rank, one.recipe.learning_rate) for one in found] == [
        (8, 1e-4),
        (8, 2e-4),
        (16, 1e-4),
        (16, 2e-4),
    ]
    assert {one.out for one in found} == {Path("results/tiny-lookright")}


def test_rates_share_a_stack_and_stand_apart_in_ledger_and_table(small, capsys):
    main([*small, "--learning-rates", "1e-2,2e-2", "--lora-ranks", "2,4"])
    said = capsys.readouterr()
    assert "runs per forward pass: 8," in said.err
    assert said.err.count("recipe: ") == 4
    assert "recipe: the same with learning_rate=0.02\n" in said.err
    assert "small/0110/seed120 (lora rank 4, learning rate 0.02), validation F1" in said.err
    assert said.err.count("chosen on validation: ") == 4
    results = Ledger(Path(small[small.index("--out") + 1]) / "ledger.jsonl").results()
    recipes = [(one.run.recipe.lora_rank, one.run.recipe.learning_rate) for one in results]
    assert sorted(set(recipes)) == [(2, 1e-2), (2, 2e-2), (4, 1e-2), (4, 2e-2)]
    assert len({one.run.id for one in results}) == 8
