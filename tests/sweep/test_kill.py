"""Sweeps that are killed again and again end with what an undisturbed one ends with."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unmask.results.ledger import Ledger
from unmask.results.run import RunResult

KILLED = -signal.SIGKILL

WITHOUT_PAGES = """
import unmask.sweep.outputs as module
module.write_outputs = lambda ledger, folder: []
"""

KILL = """
import os, signal
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""

WHILE_A_CHECKPOINT_IS_WRITTEN = f"""{KILL}
import unmask.training.checkpoint as module
from pathlib import Path
calls = []
replace = Path.replace
def replace_or_die(path, target):
    calls.append(path)
    kill() if len(calls) == 5 and path.name == "checkpoint.partial" else replace(path, target)
Path.replace = replace_or_die
"""

WHILE_AN_ADAPTER_IS_SAVED = f"""{KILL}
import unmask.saving as module
module._own_config = lambda *args: kill()
"""

IN_THE_MIDDLE_OF_A_RECORD = f"""{KILL}
import unmask.results.ledger as module
write = os.write
class TornOs:
    def __getattr__(self, name):
        return getattr(os, name)
    def write(self, file, data):
        write(file, data[:len(data) // 2])
        kill()
module.os = TornOs()
"""

BETWEEN_RECORD_AND_CHECKPOINT = f"""{KILL}
import unmask.sweep.train as module
module.delete_checkpoint = lambda folder: kill() if (folder / "checkpoint.safetensors").exists() \
else None
"""

BEFORE_TEST_SCORES = f"""{KILL}
from unmask.results.ledger import Ledger
Ledger.append_test = lambda *args: kill()
"""

EVERY_MOMENT = (
    WHILE_A_CHECKPOINT_IS_WRITTEN,
    WHILE_AN_ADAPTER_IS_SAVED,
    IN_THE_MIDDLE_OF_A_RECORD,
    BETWEEN_RECORD_AND_CHECKPOINT,
    BEFORE_TEST_SCORES,
)


def arguments(data_dir: Path, out: Path, max_steps: int = 4) -> list[str]:
    return [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out)),
        *("--configs", "0000,0110,1111", "--seeds", "120", "--max-steps", str(max_steps)),
        *("--epochs", "20", "--fuse", "2", "--checkpoint-seconds", "0"),
    ]


def assert_same(killed: Path, calm: Path) -> None:
    """The same runs with the same scores, and nothing left of checkpoints."""
    got, expected = Ledger(killed / "ledger.jsonl"), Ledger(calm / "ledger.jsonl")
    assert len(got.results()) == len(expected.results()) == 3
    by_id = {result.run.id: result for result in expected.results()}
    for result in got.results():
        same = by_id[result.run.id]
        assert result.scores == same.scores
        # Resumed stacks may be packed otherwise, so sums are taken in another order.
        assert result.curves["train_loss"] == pytest.approx(same.curves["train_loss"], rel=1e-4)
        assert result.timings["train_tokens"] == same.timings["train_tokens"]
    assert not list(killed.rglob("*checkpoint*"))


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param((WHILE_A_CHECKPOINT_IS_WRITTEN, IN_THE_MIDDLE_OF_A_RECORD), id="two moments"),
        pytest.param(EVERY_MOMENT, id="every moment", marks=pytest.mark.slow),
    ],
)
def test_sweep_killed_at_the_worst_moments_ends_as_if_undisturbed(
    warm_python, data_dir, tmp_path, moments
):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert warm_python.run(arguments(data_dir, calm), WITHOUT_PAGES) == 0
    codes = [warm_python.run(arguments(data_dir, killed), first) for first in moments]
    assert codes == [KILLED] * len(moments), warm_python.log.read_text()
    assert warm_python.run(arguments(data_dir, killed), WITHOUT_PAGES) == 0
    assert_same(killed, calm)
    [warning] = Ledger(killed / "ledger.jsonl").warnings()
    assert "ledger.jsonl.torn: a torn record was set aside" in warning


SLOWLY = """
import time
from unmask.training.module import FusedRuns

training_step = FusedRuns.training_step

def and_wait(self, *args):
    training_step(self, *args)
    time.sleep(1)

FusedRuns.training_step = and_wait
"""
"""So that a busy machine does not finish the sweep before the signal is sent."""


def test_interrupt_is_one_line_and_the_same_command_goes_on(warm_python, data_dir, tmp_path):
    out = tmp_path / "out"
    long = arguments(data_dir, out, max_steps=30)
    pid = warm_python.start(long, SLOWLY)
    deadline = time.monotonic() + 60
    while not list(out.rglob("checkpoint.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(pid, signal.SIGINT)
    assert warm_python.wait() == 130
    said = [
        line
        for line in warm_python.log.read_text().splitlines()
        if not line.startswith(("note: ", "recipe: ", "backbone: ", "runs per ", "3 runs, "))
    ]
    assert said == [
        "python -m unmask.sweep: interrupted; the same command goes on where it was",
    ]
    assert warm_python.run(long, WITHOUT_PAGES) == 0
    results = Ledger(out / "ledger.jsonl").results()
    assert [len(result.curves["train_loss"]) for result in results] == [30, 30, 30]


@pytest.mark.slow
def test_real_command_killed_at_random_moments_ends_as_if_undisturbed(data_dir, tmp_path):
    calm, killed = tmp_path / "calm", tmp_path / "killed"

    def start(out: Path) -> subprocess.Popen:
        command = [sys.executable, "-m", "unmask.sweep", *arguments(data_dir, out, max_steps=40)]
        with (tmp_path / "log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    started = time.monotonic()
    assert start(calm).wait() == 0
    whole = time.monotonic() - started
    moments = random.Random(120)
    num_kills = 0
    while num_kills < 8:
        process = start(killed)
        time.sleep(moments.uniform(0.2, 1.0) * whole)
        process.kill()
        num_kills += 1
        if process.wait() == 0:
            break
    assert num_kills > 1
    assert start(killed).wait() == 0
    assert (killed / "report.html").read_text().count("0110") > 0
    assert_same(killed, calm)


STEPS = 40


def steps_done(out: Path) -> int:
    """Optimizer steps of all runs that are safe on disk."""
    finished = Ledger(out / "ledger.jsonl").results()
    done = STEPS * len(finished)
    for path in out.rglob("checkpoint.safetensors"):
        if path.parent.name not in {result.run.id for result in finished}:
            try:
                # In one go: opened twice, as `safe_open` does, it may be another file each time.
                data = path.read_bytes()
            except FileNotFoundError:  # the run ended while we looked
                continue
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            done += json.loads(header["__metadata__"]["progress"])["steps"]
    return done


@pytest.mark.slow
def test_sweep_killed_ten_times_at_random_moments_ends_as_if_undisturbed(
    warm_python, data_dir, tmp_path
):
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    assert warm_python.run(arguments(data_dir, calm, STEPS), WITHOUT_PAGES) == 0
    rng = random.Random(120)
    codes = []
    for moment in sorted(rng.sample(range(1, 3 * STEPS - 10), 10)):
        pid = warm_python.start(arguments(data_dir, killed, STEPS), WITHOUT_PAGES)
        deadline = time.monotonic() + 300
        while steps_done(killed) < moment and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1))
        os.kill(pid, signal.SIGKILL)
        codes.append(warm_python.wait())
    assert codes == [KILLED] * 10
    assert warm_python.run(arguments(data_dir, killed, STEPS), WITHOUT_PAGES) == 0
    assert_same(killed, calm)
    settings = [
        [one.run.to_dict() for one in sorted(Ledger(out / "ledger.jsonl").results(), key=by_id)]
        for out in (killed, calm)
    ]
    assert settings[0] == settings[1]


def by_id(result: RunResult) -> str:
    return result.run.id
