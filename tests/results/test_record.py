from __future__ import annotations

import json

import pytest

from unmask.recipe import PAPER
from unmask.results.record import RunRecord
from unmask.results.run import Run, RunResult


@pytest.fixture
def record():
    run = Run("tiny", "mine", "0110", 120, PAPER, "0" * 16)
    return RunRecord(RunResult(run, {"validation": {"f1": 0.5}}), "tiny", {"name": "mine"})


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    path = record.write(tmp_path)
    assert path.name == "run.json"
    assert RunRecord.read(path) == RunRecord.read(tmp_path) == record
    assert RunRecord.read(path).result.run.id == record.result.run.id


def test_a_missing_record_is_said_with_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no .*run.json; give the run.json of a sweep's"):
        RunRecord.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1, "load_from": "a"}'])
def test_another_file_is_no_record(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json is no record of a run"):
        RunRecord.read(tmp_path)


def test_a_record_of_another_format_is_refused(record, tmp_path):
    path = record.write(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 2}))
    with pytest.raises(ValueError, match="format version 2, expected 1"):
        RunRecord.read(path)
