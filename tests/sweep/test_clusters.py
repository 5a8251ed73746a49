"""The same sweep on a Ray cluster and as SLURM jobs ends with the same ledger, whoever dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from unmask.results.ledger import Ledger

pytestmark = pytest.mark.slow

CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
"""Two machines with a CPU each, as far as Ray knows; they stop when stdin closes."""


def arguments(data_dir: Path, out: Path, *more: str) -> list[str]:
    return [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out)),
        *("--configs", "0000,0110,1111", "--seeds", "120,121", "--max-steps", "6"),
        *("--epochs", "20", "--fuse", "2", "--checkpoint-seconds", "0", *more),
    ]


def run(argv: list[str], **environment: str) -> str:
    """What the command says on stderr; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "unmask.sweep", *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def ray_address():
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture(scope="module")
def alone(data_dir, tmp_path_factory):
    """The ledger of the sweep by one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    run(arguments(data_dir, out))
    return Ledger(out / "ledger.jsonl")


def assert_same(out: Path, expected: Ledger) -> None:
    """The same runs with the same scores; losses to the rounding of stacks of other widths."""
    got = Ledger(out / "ledger.jsonl")
    assert got.warnings() == []  # a run written twice would be one
    by_id = {result.run.id: result for result in expected.results()}
    assert {result.run.id for result in got.results()} == set(by_id)
    for result in got.results():
        same = by_id[result.run.id]
        assert result.scores == same.scores
        assert result.curves["train_loss"] == pytest.approx(same.curves["train_loss"], rel=1e-4)
    assert not list(out.rglob("*checkpoint*"))


class KillFirst:
    """Kills, once, the worker whose log appears first and that has begun to train."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.killed: int | None = None
        self._thread = threading.Thread(target=self._watch)
        self._over = threading.Event()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while not self._over.is_set():
            if list(self.out.rglob("checkpoint.safetensors")):
                pids = self._pids_of_workers()
                if pids:
                    self.killed = pids[0]
                    os.kill(self.killed, signal.SIGKILL)
                    return
            time.sleep(0.005)

    def _pids_of_workers(self) -> list[int]:
        """Workers whose log says that they train."""
        logs = sorted((self.out / "workers").glob("*.log"))
        return [
            int(log.stem.rpartition("-")[2])
            for log in logs
            if "runs per forward pass" in log.read_text()
        ]


def test_a_ray_cluster_of_two_ends_with_what_one_process_ends_with(
    ray_address, data_dir, tmp_path, alone
):
    out = tmp_path / "out"
    said = run(arguments(data_dir, out, "--workers", "ray://auto"), RAY_ADDRESS=ray_address)
    assert "Ray: 2 tasks at a time, each with a CPU" in said
    assert_same(out, alone)
    assert said.count(": done: ") == 6
    trained = [log for log in (out / "workers").glob("*.log") if "done: " in log.read_text()]
    assert len(trained) == 2
    assert not list((out / "workers").glob("seen-*"))


def test_a_ray_worker_killed_in_training_loses_nothing(ray_address, data_dir, tmp_path, alone):
    out = tmp_path / "out"
    with KillFirst(out) as kill:
        said = run(arguments(data_dir, out, "--workers", "ray://auto"), RAY_ADDRESS=ray_address)
    assert kill.killed is not None
    assert "died (WorkerCrashedError); given out again" in said
    assert_same(out, alone)


def test_a_search_on_ray_shares_its_trials(ray_address, data_dir, tmp_path):
    out = tmp_path / "out"
    flags = ["--search", "--trials", "4", "--groups", "2", "--at-a-time", "1", "--configs", "00"]
    argv = arguments(data_dir, out, *flags, "--workers", "ray://auto", "--seeds", "120")
    run(argv, RAY_ADDRESS=ray_address)
    found = {result.run.config for result in Ledger(out / "ledger.jsonl").results()}
    assert found == {"00", "01", "10", "11"}


def test_a_cluster_that_does_not_answer_is_one_line(data_dir, tmp_path):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    argv = arguments(data_dir, tmp_path / "out", "--workers", "ray://127.0.0.1:1")
    done = subprocess.run(
        [sys.executable, "-m", "unmask.sweep", *argv], capture_output=True, text=True
    )
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert "--workers: no Ray cluster answers at ray://127.0.0.1:1" in said
    assert "start one with `ray start --head`" in said


def test_jobs_end_with_what_one_process_ends_with(data_dir, tmp_path, alone):
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    out = tmp_path / "out"
    said = run(arguments(data_dir, out, "--workers", "slurm:2,cluster=local"))
    assert_same(out, alone)
    assert said.count(": done: ") == 6


def test_an_option_that_submitit_does_not_know_is_one_line(data_dir, tmp_path):
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    argv = arguments(data_dir, tmp_path / "out", "--workers", "slurm:2,cluster=local,color=red")
    done = subprocess.run(
        [sys.executable, "-m", "unmask.sweep", *argv], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "--workers slurm: Unknown argument 'color'" in done.stderr.splitlines()[-1]
