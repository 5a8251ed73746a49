import json

import pytest

from unmask.experiment import main
from unmask.experiment.config import Experiment
from unmask.experiment.runner import choose_variant, write_text


@pytest.fixture
def experiment(tmp_path):
    """`experiment(variants)`: a folder with that config.json."""

    def write(**variants):
        folder = tmp_path / "trial"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"title": "Trial", "variants": variants}))
        return folder

    return write


COUNTS = {"commands": [["text", "{out}/text", "3"]]}
NEEDS_DATA = ["rdrr", "{out}/rdrr-mine.txt", "--task", "mine", "--data-dir", "{data}/mine"]


def claim(left, right):
    return {"claim": "rdrr_counts", "task": "mine", "left": left, "right": right}


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "corpora" / "mine"
    folder.mkdir(parents=True)
    words = [("Barack", "B-PER"), ("Obama", "I-PER"), ("was", "O"), ("born", "O"), ("in", "O")]
    rows = [*words, ("Hawaii", "B-LOC"), (".", "O")]
    (folder / "train.txt").write_text("\n".join(f"{w} {t}" for w, t in rows) + "\n")
    return folder.parent


@pytest.mark.parametrize(("right", "code", "word"), [(2, 0, "holds"), (3, 1, "FAILS")])
def test_a_claim_decides_the_exit_code(experiment, data_dir, tmp_path, capsys, right, code, word):
    folder = experiment(small={"commands": [NEEDS_DATA], "claims": [claim(2, right)]})
    flags = ["--small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as ending:
        main(folder, flags)
    assert ending.value.code == code
    assert f"{word}: RDRR of mine" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "trial-small-claims.json").read_text())
    assert record["verdicts"][0]["measured"] == {"L": 2, "R": 2}


def test_what_needs_a_corpus_that_is_not_there_is_left_out_aloud(experiment, tmp_path, capsys):
    folder = experiment(
        small={"commands": [COUNTS["commands"][0], NEEDS_DATA], "claims": [claim(2, 2)]}
    )
    with pytest.raises(SystemExit) as ending:
        main(folder, ["--small", "--out", str(tmp_path / "out")])
    assert ending.value.code == 0
    assert "left out, for want of its corpus in --data-dir: rdrr" in capsys.readouterr().err
    assert (tmp_path / "out" / "text" / "lookright.txt").read_text().count("\n") == 3


def test_the_largest_variant_that_can_be_run_is_taken_and_the_reason_said(
    experiment, data_dir, capsys
):
    folder = experiment(
        full={"models": ["mistral-7b"], "commands": [NEEDS_DATA]},
        open={"models": ["tiny"], "commands": [NEEDS_DATA]},
        small=COUNTS,
    )
    trial = Experiment.read(folder)
    assert choose_variant(trial, None, data_dir).name == "open"
    assert "not the full variant: the weights of mistral-7b" in capsys.readouterr().err
    assert choose_variant(trial, None, None).name == "small"
    assert "none of its corpora is in --data-dir" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no variant 'open', only small"):
        choose_variant(Experiment.read(experiment(small=COUNTS)), "open", None)
    with pytest.raises(ValueError, match="nothing here can be run; give --data-dir"):
        choose_variant(Experiment.read(experiment(open={"commands": [NEEDS_DATA]})), None, None)


def test_the_text_is_the_same_every_time_and_never_written_twice(tmp_path):
    write_text(tmp_path / "a", 20)
    write_text(tmp_path / "b", 20)
    first = (tmp_path / "a" / "lookright.txt").read_text()
    assert first == (tmp_path / "b" / "lookright.txt").read_text()
    write_text(tmp_path / "a", 5)
    assert (tmp_path / "a" / "lookright.txt").read_text() == first
