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
    ],
)
def test_a_config_that_nobody_understands_is_refused(tmp_path, values, message):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message):
        Experiment.read(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        Experiment.read(tmp_path)
