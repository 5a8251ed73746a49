"""SLURM jobs, by submitit's own SLURM executor and a stand-in for the commands of SLURM."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from unmask.results.ledger import Ledger
from unmask.sweep.slurm import _reason

STAND_IN = Path(__file__).parent / "slurm_stand_in.py"


@pytest.fixture
def slurm(tmp_path):
    """The environment of a machine with SLURM."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    bin_folder = tmp_path / "bin"
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SLURM_STAND_IN": str(tmp_path / "jobs"),
        "OMP_NUM_THREADS": "1",
    }
    install = [sys.executable, str(STAND_IN), "install", str(bin_folder)]
    subprocess.run(install, check=True, env=environment)
    return environment


def start(data_dir: Path, out: Path, environment: dict[str, str], *more: str) -> subprocess.Popen:
    given = [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out), "--seeds", "120"),
        *("--configs", "0000,0110,1111", "--max-steps", "30", "--epochs", "20", "--fuse", "1"),
        *("--checkpoint-seconds", "0", *more),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "unmask.sweep", *given],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def scores(out: Path) -> dict[str, dict]:
    ledger = Ledger(out / "ledger.jsonl")
    assert ledger.warnings() == []
    return {result.run.id: result.scores for result in ledger.results()}


def answers_to(process: psutil.Process, kind: signal.Signals) -> bool:
    """Has it a handler for this signal by now?"""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (kind - 1) & 1)


def jobs_that_train(out: Path, environment: dict[str, str]) -> list[psutil.Process]:
    """The processes of jobs that have begun, once one of them has written a checkpoint."""
    while not list(out.rglob("checkpoint.safetensors")):
        time.sleep(0.005)
    ours = environment["SLURM_STAND_IN"]
    every = psutil.process_iter(["cmdline", "environ"])
    return [
        process
        for process in every
        if "submitit.core._submit" in (process.info["cmdline"] or ())
        and (process.info["environ"] or {}).get("SLURM_STAND_IN") == ours
        and answers_to(process, signal.SIGUSR2)
    ]


@pytest.mark.slow
def test_a_preempted_array_of_jobs_ends_with_what_one_process_ends_with(data_dir, tmp_path, slurm):
    alone, out = tmp_path / "alone", tmp_path / "out"
    process = start(data_dir, alone, dict(os.environ))
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 0, said
    process = start(data_dir, out, slurm, "--workers", "slurm:2,partition=gpu")
    jobs = jobs_that_train(out, slurm)
    assert jobs, "no job trains"
    for kind in (signal.SIGTERM, signal.SIGUSR2):  # both are sent before a job is taken away
        for job in jobs:
            with suppress(psutil.NoSuchProcess):
                job.send_signal(kind)
        time.sleep(0.05)
    said = process.communicate(timeout=400)[1]
    assert process.returncode == 0, said
    assert scores(out) == scores(alone)
    logs = "".join(path.read_text() for path in (out / "workers").rglob("*_log.*"))
    assert "this job is preempted" in logs
    assert "Requeued job" in logs
    assert "SLURM auto-requeueing" not in logs  # nobody else does the same
    assert said.count(": done: ") == 3


@pytest.mark.slow
def test_what_goes_wrong_with_jobs_is_one_line(data_dir, tmp_path, slurm):
    out = tmp_path / "out"
    process = start(data_dir, out, slurm, "--workers", "slurm:2,partition=none")
    said = process.communicate(timeout=100)[1].splitlines()
    assert process.returncode == 2
    assert "--workers slurm: sbatch: error: invalid partition specified: none" in said[-1]

    process = start(data_dir, out, slurm, "--workers", "slurm:2,partition=doomed")
    said = process.communicate(timeout=300)[1].splitlines()
    assert process.returncode == 1
    lost = [line for line in said if line.startswith("warning: job ")]
    assert len(lost) == 2
    assert all("ended (NODE_FAIL): it left no result; see " in line for line in lost)
    assert said[-1].endswith(".err")
    assert "ended (NODE_FAIL): it left no result" in said[-1]


@pytest.mark.slow
def test_the_reason_of_a_job_that_failed_is_the_end_of_its_trace(tmp_path):
    submitit = pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    executor = submitit.AutoExecutor(tmp_path, cluster="local")
    error = executor.submit(int, "no number").exception()
    assert _reason(error) == "ValueError: invalid literal for int() with base 10: 'no number'"
