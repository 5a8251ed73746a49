"""The same sweep on a Ray cluster and as SLURM jobs ends with the same ledger, whoever dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
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
def ray_head():
    """A head node as users start it, reached through Ray's client only."""
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    port, client_port = free_ports(2)
    # Not below tmp_path: the names of Ray's sockets have room for 107 letters.
    folder = tempfile.mkdtemp(prefix="ray-")
    flags = [
        *("--head", "--block", "--port", str(port), "--ray-client-server-port", str(client_port)),
        *("--num-cpus", "1", "--include-dashboard", "false", "--temp-dir", folder),
        *("--object-store-memory", str(100 * 2**20), "--disable-usage-stats"),
    ]
    head = subprocess.Popen(
        [str(Path(sys.executable).parent / "ray"), "start", *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # gRPC's own handler of forks kills the servers that the head forks for its clients
        # (seen with Ray 2.60).
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
    )
    yield f"ray://127.0.0.1:{client_port}"
    head.terminate()
    head.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, outside of what Ray gives its workers (10002 to 19999)."""
    found = []
    for port in range(20000, 30000, 37):
        with socket.socket() as one:
            if len(found) < count and one.connect_ex(("127.0.0.1", port)):
                found.append(port)
    return found


def wait_for(address: str) -> None:
    host, _, port = address.removeprefix("ray://").partition(":")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as one:
            if one.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"nobody listens at {address}")


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


def test_a_remote_client_ends_with_what_one_process_ends_with_though_a_worker_is_killed(
    ray_head, data_dir, tmp_path, alone
):
    wait_for(ray_head)
    out = tmp_path / "out"
    with KillFirst(out) as kill:
        said = run(arguments(data_dir, out, "--workers", ray_head))
    assert "Ray: 1 tasks at a time, each with a CPU" in said
    assert kill.killed is not None
    assert "died (WorkerCrashedError); given out again" in said
    assert_same(out, alone)


@pytest.mark.parametrize(
    ("workers", "environment", "place"),
    [
        ("ray://127.0.0.1:1", {}, "ray://127.0.0.1:1"),
        ("ray://auto", {"RAY_ADDRESS": "127.0.0.1:1"}, "127.0.0.1:1"),
        ("ray://auto", {"RAY_ADDRESS": "ray://127.0.0.1:1"}, "ray://127.0.0.1:1"),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_line_within_seconds(
    data_dir, tmp_path, workers, environment, place
):
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "unmask.sweep"),
            *arguments(data_dir, tmp_path / "out", "--workers", workers),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,  # Ray alone would try for 140 s; most of ours goes into imports
    )
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    assert f"--workers: no Ray cluster answers at {place} (" in said
    assert "start one with `ray start --head`" in said


def test_a_server_that_is_no_ray_cluster_is_one_line(data_dir, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from unmask.sweep.ray_tasks import _cluster

    def refuse(**settings):
        raise ConnectionError("Initialization failure from server:\nTraceback\n  Error: too old")

    monkeypatch.setattr(ray, "init", refuse)
    message = r"the Ray cluster at this machine does not take us in \(Error: too old\)"
    with pytest.raises(ValueError, match=message), _cluster(ray, None):
        pass


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
