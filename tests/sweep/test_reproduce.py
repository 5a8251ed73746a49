from __future__ import annotations

import io
import json
from typing import Any

import pytest
from huggingface_hub import ModelCard
from rich.console import Console

from unmask import UnmaskedForTokenClassification
from unmask.results.record import RunRecord
from unmask.sweep.reproduce import reproduce


def load_card(path) -> Any:
    return ModelCard.load(path)


@pytest.fixture
def folder(sweep):
    """What a sweep left of the run 0110."""
    done = sweep(test="none")
    return done.out / "runs" / done.by_name["0110/seed120"].run.id


def quiet():
    return Console(file=io.StringIO())


def edited(folder, **changes):
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return RunRecord.read(folder)


def test_a_recorded_run_is_trained_again_to_the_same_score(folder):
    record = RunRecord.read(folder / "run.json")
    done = reproduce(record, quiet())
    assert done.is_same
    assert done.f1[0] == record.result.scores["validation"]["f1"]
    assert done.again.curves["train_loss"] == pytest.approx(record.result.curves["train_loss"])
    assert "the same to the last digit" in done.to_text()


def test_another_score_and_another_environment_are_said(folder):
    record = RunRecord.read(folder)
    scores = {"validation": {**record.result.scores["validation"], "f1": 0.123}}
    environment = {**record.result.environment, "torch": "1.0"}
    done = reproduce(edited(folder, scores=scores, environment=environment), quiet())
    assert not done.is_same
    assert list(done.changes) == ["torch"]
    assert "recorded F1   0.123000" in done.to_text()
    assert "NOT THE SAME\ntorch: was 1.0, is " in done.to_text()


def test_data_that_moved_is_found_where_it_is_said_to_be(folder, data_dir):
    record = edited(folder, data={**RunRecord.read(folder).data, "data_dir": "gone"})
    assert reproduce(record, quiet(), data_dir=data_dir).is_same


def test_other_data_is_refused_before_training(folder, data_dir, tmp_path):
    for path in data_dir.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace("the ", "a ", 1))
    with pytest.raises(ValueError, match=r"has fingerprint \w{16}, but this run was trained on"):
        reproduce(RunRecord.read(folder), quiet(), data_dir=tmp_path)


def test_other_weights_are_refused_before_training(folder):
    record = RunRecord.read(folder)
    environment = {**record.result.environment, "weights_digest": "0" * 16}
    with pytest.raises(ValueError, match="are not those that this run was trained on"):
        reproduce(edited(folder, environment=environment), quiet())


def test_a_sweep_leaves_a_card_with_the_scores_and_the_proof(folder):
    record = RunRecord.read(folder)
    card = load_card(folder / "README.md")
    f1 = record.result.scores["validation"]["f1"]
    (found,) = [r for r in card.data.eval_results or [] if r.metric_type == "f1"]
    assert found.metric_value == f1
    assert found.dataset_split == "validation"
    assert f"| all (micro) | {record.result.scores['validation']['precision']:.4f}" in card.text
    assert card.text.count("left only") == 4
    assert card.text.count("both sides") == 4
    assert record.result.run.data_fingerprint in card.text


def test_the_folder_of_a_run_loads_and_predicts(folder):
    labeler = UnmaskedForTokenClassification.from_pretrained(folder)
    assert isinstance(labeler.predict("a river"), list)
