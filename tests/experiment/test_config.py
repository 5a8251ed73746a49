import json
from pathlib import Path

import pytest

from unmask.experiment.claims import CLAIMS
from unmask.experiment.config import Experiment

FOLDER = Path(__file__).parents[2] / "experiments"
FOLDERS = sorted(path.parent for path in FOLDER.glob("*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_every_experiment_is_readable_small_and_has_its_page(folder):
    experiment = Experiment.read(folder)
    assert "small" in experiment.variants
    for variant in experiment.variants.values():
        assert variant.commands
        assert {claim["claim"] for claim in variant.claims} <= set(CLAIMS)
    page = (folder / "README.md").read_text()
    assert f"python experiments/{folder.name}/run.py" in page
    assert (folder / "run.py").exists()


def test_the_continual_check_runs_every_experiment():
    makefile = (FOLDER.parent / "Makefile").read_text()
    (line,) = (line for line in makefile.splitlines() if line.startswith("EXPERIMENTS := "))
    assert sorted(line.split()[2:]) == [folder.name for folder in FOLDERS]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"title": "x"}, r"config\.json is no configuration of an experiment: KeyError"),
        ({"title": "x", "variants": {"huge": {"commands": [["sweep"]]}}}, "unknown variant 'huge'"),
        (
            {"title": "x", "variants": {"small": {"commands": [["rm", "-r"]]}}},
            r"a command must begin with one of sweep, .*, got \['rm'\]",
        ),
        (
            {"title": "x", "variants": {"small": {"commands": [{"each": ["sweep"]}]}}},
            r"config\.json is no configuration of an experiment: KeyError\('for'\)",
        ),
    ],
)
def test_a_config_that_nobody_understands_is_refused(tmp_path, values, message):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        Experiment.read(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        Experiment.read(tmp_path)


def write(folder, *commands):
    folder.mkdir()
    text = json.dumps({"title": "x", "variants": {"small": {"commands": list(commands)}}})
    (folder / "config.json").write_text(text)


def test_commands_are_repeated_for_every_combination_of_values(tmp_path):
    values = {"model": ["a", "b"], "seed": ["1", "2"]}
    repeated = {"for": values, "commands": [["sweep", "{model}"], ["rdrr", "{model}-{seed}"]]}
    write(tmp_path / "one", ["text"], repeated)
    assert Experiment.read(tmp_path / "one").variants["small"].commands == (
        ("text",),
        *(("sweep", "a"), ("rdrr", "a-1"), ("sweep", "a"), ("rdrr", "a-2")),
        *(("sweep", "b"), ("rdrr", "b-1"), ("sweep", "b"), ("rdrr", "b-2")),
    )


def test_commands_of_another_experiment_are_its_own(tmp_path):
    write(tmp_path / "one", ["sweep", "x"])
    write(tmp_path / "two", {"of": "one"}, ["rdrr"])
    assert Experiment.read(tmp_path / "two").variants["small"].commands == (
        ("sweep", "x"),
        ("rdrr",),
    )
