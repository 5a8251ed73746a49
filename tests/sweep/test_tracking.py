"""Learning curves in CSV files, TensorBoard and Weights & Biases say what the ledger says."""

import csv
import importlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unmask.results.ledger import Ledger
from unmask.sweep.__main__ import main
from unmask.training.trackers import check_trackers


def rows(done, name):
    path = done.out / "runs" / done.by_name[name].run.id / "curves.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def losses(found):
    return [float(row["train_loss"]) for row in found if row["train_loss"]]


def test_every_run_leaves_its_curve_in_a_csv_file(sweep):
    done = sweep(max_steps=3, test="none")
    for name, result in done.by_name.items():
        found = rows(done, name)
        assert [row["step"] for row in found] == ["1", "2", "3", "3"]
        assert losses(found) == result.curves["train_loss"]
        rates = [float(row["learning_rate"]) for row in found[:3]]
        assert rates == sorted(rates, reverse=True)
        assert rates[0] == result.run.recipe.learning_rate
        assert float(found[-1]["validation_f1"]) == result.scores["validation"]["f1"]


def test_a_curve_goes_on_after_a_rung_without_a_step_twice(sweep):
    done = sweep(configs=("0000", "0110"), max_steps=8, halving=True, test="none")
    for name, result in done.by_name.items():
        found = rows(done, name)
        assert [row["step"] for row in found if row["train_loss"]] == [*map(str, range(1, 9))]
        assert losses(found) == result.curves["train_loss"]


def test_tensorboard_reads_the_losses_of_every_run(sweep):
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = sweep(max_steps=3, test="none", track=("tensorboard",))
    for result in done.by_name.values():
        [folder] = (done.out / "tensorboard").glob(f"*/{result.run.id}")
        events = EventAccumulator(str(folder))
        events.Reload()
        read = [(event.step, event.value) for event in events.Scalars("train_loss")]
        assert [step for step, _ in read] == [1, 2, 3]
        assert [value for _, value in read] == pytest.approx(result.curves["train_loss"])
        [validation] = events.Scalars("validation_f1")
        assert validation.value == pytest.approx(result.scores["validation"]["f1"])


def test_tensorboard_shows_every_step_once_where_a_run_went_on(sweep):
    pytest.importorskip("tensorboard", reason="the extra `track` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # Pauses after steps 2 and 4.
    done = sweep(configs=("0000",), max_steps=8, halving=True, test="none", track=("tensorboard",))
    [folder] = (done.out / "tensorboard").glob("*/*")
    assert len(list(folder.iterdir())) == 3
    events = EventAccumulator(str(folder))
    events.Reload()
    [result] = done.by_name.values()
    read = [(event.step, event.value) for event in events.Scalars("train_loss")]
    assert [step for step, _ in read] == [*range(1, 9)]
    assert [value for _, value in read] == pytest.approx(result.curves["train_loss"])


BLOCK, HEADER = 32768, 7


def records_of_wandb(path: Path) -> Iterator[bytes]:
    """Payloads of a `.wandb` file: LevelDB's log format behind seven bytes of its own."""
    content = path.read_bytes()
    at, parts = HEADER, b""
    while at < len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield parts
            parts = b""


def test_validation_after_every_epoch_stands_in_its_step_and_in_the_ledger(sweep):
    # 48 sentences in batches of 16: three steps an epoch.
    done = sweep(configs=("0000", "0110"), max_steps=7, test="none", epoch_scores=True)
    for name, result in done.by_name.items():
        scored = [
            (row["step"], float(row["validation_f1"]))
            for row in rows(done, name)[:-1]
            if row["validation_f1"]
        ]
        assert [step for step, _ in scored] == ["3", "6", "7"]
        assert [f1 for _, f1 in scored] == result.curves["validation_f1"]
        assert result.curves["validation_step"] == [3, 6, 7]
        assert f"{result.run.name}, epoch 2: validation F1" in done.said
    assert "precision" not in done.said  # no table by label for each of many runs


OFFLINE = 'import os\nos.environ["WANDB_MODE"] = "offline"'

KILL_AT_THE_FIFTH_CHECKPOINT = """
import signal
import unmask.training.fit as module
write, written = module.write_checkpoint, []
def write_or_die(*arguments):
    written.append(arguments)
    os.kill(os.getpid(), signal.SIGKILL) if len(written) == 5 else write(*arguments)
module.write_checkpoint = write_or_die
"""


def steps_of_wandb(file: Path) -> dict[int, dict[str, float]]:
    """What one start of a run logged, by step."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    found: dict[int, dict[str, float]] = {}
    for payload in records_of_wandb(file):
        items = {
            (item.nested_key[0] if item.nested_key else item.key): json.loads(item.value_json)
            for item in messages.Record.FromString(payload).history.item
        }
        if items:
            found.setdefault(items["_step"], {}).update(items)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True], ids=["undisturbed", "killed and resumed"])
def test_weights_and_biases_keeps_the_losses_of_every_run_offline(
    warm_python, data_dir, tmp_path, is_killed
):
    pytest.importorskip("wandb", reason="the extra `track` is not installed")
    out = tmp_path / "out"
    argv = [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out), "--seeds", "120"),
        *("--configs", "0000,0110", "--max-steps", "4", "--test", "none", "--track", "wandb"),
        *("--checkpoint-seconds", "0"),
    ]
    if is_killed:
        assert warm_python.run(argv, OFFLINE + KILL_AT_THE_FIFTH_CHECKPOINT) == -9
    assert warm_python.run(argv, OFFLINE) == 0, warm_python.log.read_text()
    results = Ledger(out / "ledger.jsonl").results()
    assert len(results) == 2
    for result in results:
        files = sorted(out.glob(f"wandb/offline-run-*-{result.run.id}/run-{result.run.id}.wandb"))
        assert len(files) == 1 + is_killed
        # A kill may have cost the first what it had not written yet.
        whole = steps_of_wandb(files[-1])
        assert sorted(whole) == [1, 2, 3, 4]
        losses = [whole[step]["train_loss"] for step in sorted(whole)]
        assert losses == pytest.approx(result.curves["train_loss"])
        f1 = result.scores["validation"]["f1"]
        assert whole[4]["validation_f1"] == pytest.approx(f1)


def test_unknown_trackers_are_refused_by_name(data_dir, tmp_path, capsys):
    given = ["--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main([*given, "--track", "tensorboard,paper"])
    message = "--track takes tensorboard, wandb (CSV is always written), got 'paper'"
    assert message in capsys.readouterr().err


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'unmask[track]'")):
        check_trackers(["wandb"])
