"""Checkpoints: whole or not at all, and only for the run that wrote them."""

import pytest
import torch
from safetensors.torch import save_file

from unmask.training.checkpoint import (
    CHECKPOINT_FILE,
    Progress,
    delete_checkpoint,
    read_checkpoint,
    write_checkpoint,
)

TENSORS = {"weight/a": torch.arange(6.0).view(2, 3), "state/a/step": torch.tensor(3)}


def progress(run_id="run", **changes):
    return Progress(run_id, 8, 4, [0.5, 0.25], 1.5, 100, **changes)


def test_what_is_written_comes_back(tmp_path):
    write_checkpoint(tmp_path / "new" / "folder", progress(), TENSORS)
    found = read_checkpoint(tmp_path / "new" / "folder", "run")
    assert found is not None
    assert found[0] == progress()
    assert found[1].keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(found[1][name], tensor)
        assert found[1][name].dtype == tensor.dtype


def test_losses_that_are_not_finite_come_back(tmp_path):
    written = Progress("run", train_loss=[0.5, float("inf")], diverged=True)
    write_checkpoint(tmp_path, written, TENSORS)
    found = read_checkpoint(tmp_path, "run")
    assert found is not None
    assert found[0] == written


def test_where_there_is_none_there_is_none(tmp_path):
    assert read_checkpoint(tmp_path, "run") is None
    assert read_checkpoint(tmp_path / "nowhere", "run") is None


def test_a_newer_one_takes_the_place_of_the_older(tmp_path):
    write_checkpoint(tmp_path, progress(), TENSORS)
    write_checkpoint(tmp_path, progress(diverged=True), {"weight/b": torch.zeros(1)})
    found = read_checkpoint(tmp_path, "run")
    assert found is not None
    assert found[0].diverged
    assert set(found[1]) == {"weight/b"}
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT_FILE]


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_fails_leaves_the_old_one(tmp_path, monkeypatch, step):
    write_checkpoint(tmp_path, progress(), TENSORS)

    def fail(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path, progress(diverged=True), {"weight/b": torch.zeros(1)})
    monkeypatch.undo()
    found = read_checkpoint(tmp_path, "run")
    assert found is not None
    assert found[0] == progress()


def test_one_of_another_run_is_refused(tmp_path):
    write_checkpoint(tmp_path, progress("other"), TENSORS)
    with pytest.raises(ValueError, match=r"is a checkpoint of run other, not of run"):
        read_checkpoint(tmp_path, "run")


@pytest.mark.parametrize("keep", [0, 7, 60, -1])
def test_one_that_is_cut_short_is_refused(tmp_path, keep):
    write_checkpoint(tmp_path, progress(), TENSORS)
    path = tmp_path / CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"is damaged \(.*\); delete it to start this run anew"):
        read_checkpoint(tmp_path, "run")


@pytest.mark.parametrize(
    "metadata", [None, {"odd": "x"}, {"progress": "{"}, {"progress": '{"odd": 1}'}]
)
def test_a_file_of_something_else_is_refused(tmp_path, metadata):
    save_file(TENSORS, tmp_path / CHECKPOINT_FILE, metadata=metadata)
    with pytest.raises(ValueError, match=r"is damaged \(.*\); delete it to start this run anew"):
        read_checkpoint(tmp_path, "run")


def test_deleting_takes_a_half_written_one_with_it(tmp_path):
    write_checkpoint(tmp_path, progress(), TENSORS)
    (tmp_path / CHECKPOINT_FILE).with_suffix(".partial").touch()
    delete_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []
    delete_checkpoint(tmp_path)
