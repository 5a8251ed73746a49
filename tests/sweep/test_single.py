"""`unmask train`: one labeler, its scores, and going on where it was."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from unmask.cli import main
from unmask.model import UnmaskedForTokenClassification
from unmask.results.record import RunRecord


@pytest.fixture
def flags(data_dir, tmp_path):
    return [
        *("train", "--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")),
        *("--epochs", "2", "--device", "cpu"),
    ]


def test_train_leaves_a_labeler_with_validation_and_test_scores(flags, capsys, monkeypatch):
    main([*flags, "--unmask", "0110", "--patience", "1"])
    said = capsys.readouterr()
    (folder,) = said.out.splitlines()
    labeler = UnmaskedForTokenClassification.from_pretrained(folder, device="cpu")
    assert labeler.configs[0].code == "0110"
    result = RunRecord.read(Path(folder)).result
    assert set(result.scores) == {"validation", "test"}
    assert result.run.recipe.patience == 1
    curve = result.curves["validation_f1"]
    assert result.scores["validation"]["f1"] == max(curve)
    assert said.err.count("epoch 1: validation F1") == 1
    assert "recipe: preset=tiny, " in said.err
    assert "epochs=2, " in said.err
    assert "## Scores on test" in ModelCard.load(f"{folder}/README.md").text
    monkeypatch.setattr("unmask.sweep.stack.fit", None)  # nothing is left to train
    main([*flags, "--unmask", "0110", "--patience", "1"])
    assert capsys.readouterr().out.splitlines() == [folder]


def test_the_test_split_can_be_left_alone(flags, capsys):
    main([*flags, "--unmask", "1111", "--test", "none"])
    folder = capsys.readouterr().out.strip()
    assert set(RunRecord.read(Path(folder)).result.scores) == {"validation"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], 'tiny is a decoder: say which layers look right, such as unmask="0110"'),
        (["--unmask", "01102"], "unmasking code '01102' is not a string of 0s and 1s"),
        (["--unmask", "0110", "--learning-rate", "1e30"], "diverged: its loss was no finite numb"),
    ],
)
def test_what_cannot_be_trained_is_one_line(flags, capsys, more, message):
    with pytest.raises(SystemExit, match="2"):
        main([*flags, *more])
    assert message in capsys.readouterr().err.splitlines()[-1]
