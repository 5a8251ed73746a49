"""Workers share the runs of a sweep: each run is trained once, whoever dies."""

import io
import threading
import time

import pytest
from rich.console import Console

from unmask.results.ledger import Ledger
from unmask.sweep.extras import import_extra
from unmask.sweep.locks import Claim
from unmask.sweep.plan import SweepSettings
from unmask.sweep.stack_loop import Stack
from unmask.sweep.watch import LogWatch
from unmask.sweep.workers import Workers, parse_workers

KILL_FIRST_WORKER = """
import os, signal, threading, time
from multiprocessing.context import SpawnProcess
start, victims = SpawnProcess.start, []
def start_and_kill(process):
    start(process)
    victims.append(process)
    def kill():
        while not list(OUT.rglob("checkpoint.safetensors")):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    if len(victims) == 1:
        threading.Thread(target=kill, daemon=True).start()
SpawnProcess.start = start_and_kill
"""


def arguments(data_dir, out, *more):
    return [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out)),
        *("--configs", "0000,0110,1111", "--seeds", "120,121", "--max-steps", "4"),
        *("--checkpoint-seconds", "0", *more),
    ]


def f1_by_name(out):
    return {
        r.run.name: r.scores["validation"]["f1"] for r in Ledger(out / "ledger.jsonl").results()
    }


@pytest.mark.slow
def test_two_workers_end_with_what_one_process_ends_with(warm_python, data_dir, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert warm_python.run(arguments(data_dir, alone)) == 0
    assert warm_python.run(arguments(data_dir, shared, "--workers", "2")) == 0
    assert f1_by_name(shared) == f1_by_name(alone)
    ledger = Ledger(shared / "ledger.jsonl")
    assert ledger.warnings() == []  # a run written twice would be one
    logs = [(shared / "workers" / f"worker-{index}.log").read_text() for index in (0, 1)]
    assert sum(log.count("done: ") for log in logs) == 6
    assert "6 runs, 6 of them already in" in warm_python.log.read_text()
    assert not list(shared.rglob("*.lock"))


def test_a_run_that_another_process_has_is_waited_for_and_taken_up_when_it_dies(
    sweep, settings, monkeypatch
):
    chosen = settings()
    first = sweep(max_steps=2, test="none")
    run_id = first.by_name["0110/seed120"].run.id
    (chosen.out / "ledger.jsonl").unlink()
    other = Claim(chosen.out / "locks" / f"{run_id}.lock")
    assert other.take()
    trained_at = {}
    real = Stack.claim

    def watched(stack, *args):
        found = real(stack, *args)
        trained_at.update({run.id: time.monotonic() for run in found})
        return found

    monkeypatch.setattr(Stack, "claim", watched)
    died = []
    timer = threading.Timer(3.0, lambda: (died.append(time.monotonic()), other.release()))
    timer.start()
    again = sweep(max_steps=2, test="none")
    timer.join()
    assert set(again.by_name) == {"0000/seed120", "0110/seed120"}
    assert trained_at[run_id] > died[0]
    assert sum(at < died[0] for at in trained_at.values()) == 1


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(warm_python, data_dir, tmp_path):
    out = tmp_path / "out"
    kill_one = f"from pathlib import Path\nOUT = Path({str(out)!r})\n{KILL_FIRST_WORKER}"
    assert warm_python.run(arguments(data_dir, out, "--workers", "2"), kill_one) == 0
    said = warm_python.log.read_text()
    assert "worker 0 ended with exit code -9" in said
    assert said.count(": done: ") == len(f1_by_name(out))
    assert len(f1_by_name(out)) == 6
    assert Ledger(out / "ledger.jsonl").warnings() == []


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="--workers must be at least 1, got 0"):
        SweepSettings(workers=0)


def test_workers_are_a_number_a_cluster_or_jobs():
    assert parse_workers("3") == Workers(count=3)
    assert parse_workers("ray") == Workers("ray", None)
    assert parse_workers("ray://auto") == Workers("ray", None, "auto")
    assert parse_workers("ray://10.0.0.1:10001").address == "ray://10.0.0.1:10001"
    options = (("partition", "gpu"), ("gpus_per_node", "1"))
    assert parse_workers("slurm:8,partition=gpu,gpus_per_node=1") == Workers(
        "slurm", 8, None, options
    )


@pytest.mark.parametrize("text", ["", "two", "-1", "slurm", "slurm:x", "slurm:2,gpu", "2,gpu=1"])
def test_other_workers_are_refused_by_name(text):
    with pytest.raises(ValueError, match=f"--workers takes a number of processes.*got '{text}'"):
        parse_workers(text)


def test_a_watch_says_every_whole_line_once_and_nothing_old(tmp_path):
    (tmp_path / "a.log").write_text("old\n")
    console = Console(file=io.StringIO(), markup=False, soft_wrap=True)
    watch = LogWatch(tmp_path, console)
    (tmp_path / "a.log").write_text("old\nnote: same\ndone: one\nhalf")
    (tmp_path / "b.log").write_text("note: same\n[done]: two\n")
    watch.look()
    (tmp_path / "a.log").write_text("old\nnote: same\ndone: one\nhalf a line\n")
    watch.look()
    watch.look()
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert said.splitlines() == [
        "a: note: same",
        "a: done: one",
        "b: [done]: two",
        "a: half a line",
    ]


def test_a_missing_package_names_its_extra():
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'unmask\[ray\]"):
        import_extra("nosuch", "ray")
