"""A sweep as Ray tasks: one task per GPU and fused chunk, on one machine or a cluster.

A chunk is a stack of runs that share a forward pass. A task that dies with its worker or its
machine is given out again, and goes on from the checkpoints of its runs; what was finished is
in the ledger. Searches and halving decide on the way what comes next, so there a task is a
whole worker. Nothing comes back through Ray: --out lies where all machines see it, and a task
that does not see it says so.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from unmask.backbones import LoadedBackbone
from unmask.data.sentence import Corpus
from unmask.errors import in_one_line
from unmask.results.tables import counted
from unmask.sweep.execute import (
    execute,
    load_corpus,
    load_one,
    open_ledger,
    refuse_other_weights,
    runs_on,
)
from unmask.sweep.extras import import_extra
from unmask.sweep.job import Job
from unmask.sweep.plan import SweepSettings, stacks
from unmask.sweep.train import encode_training_split, first_width, train_missing
from unmask.sweep.watch import LogWatch, logged
from unmask.sweep.workers import Workers, log_folder, on_every_machine, part_of, take_part

MAX_RETRIES = 3
"""Of a task whose worker died; what it had finished stays finished."""

NEEDED_BYTES_OF_OBJECT_STORE = 128 * 2**20

CLIENT_PORT, HEAD_PORT = 10001, 6379
"""Where Ray listens when it is not told otherwise: for ray:// addresses, and for all others."""


@dataclass(frozen=True)
class Place:
    """Where tasks work: how many at a time, and what each is given."""

    num_slots: int
    slots_per_machine: int
    num_gpus: int


def do_on_ray(settings: SweepSettings, workers: Workers, console: Console) -> None:
    """Train what is missing as Ray tasks, then score the test split in one more.

    Raises:
        ModuleNotFoundError: without Ray.
        ValueError: when a machine of the cluster does not see `--out`.
        RuntimeError: when a task's workers died more often than `MAX_RETRIES`.
    """
    ray = import_extra("ray", "ray")
    settings = on_every_machine(settings)
    with _cluster(ray, workers.address) as resources, _sentinel(settings) as sentinel:
        place = _place(resources, ray.nodes(), settings.device)
        console.print(
            f"Ray: {place.num_slots} tasks at a time, each with "
            f"{'a GPU' if place.num_gpus else 'a CPU'}; logs in {log_folder(settings)}"
        )
        settings = replace(
            settings,
            workers=place.num_slots,
            workers_per_device=1 if place.num_gpus else place.slots_per_machine,
        )
        tasks = _Tasks(ray, place, sentinel, LogWatch(log_folder(settings), console), console)
        if settings.search is not None or settings.halving:
            parts = [part_of(settings, index) for index in range(place.num_slots)]
            tasks.run([("a worker", _worker, (part,)) for part in parts])
        else:
            for name in (settings.model, *settings.baselines):
                tasks.run([("planning", _plan, (settings, name))], must_succeed=True)
                chunks = tasks.results[0]
                named = [(counted(len(ids), "run"), ids) for ids in chunks]
                tasks.run([(text, _train, (settings, name, ids)) for text, ids in named])
        whole = replace(settings, workers=1)
        tasks.run([("the end of the sweep", _finish, (whole,))], must_succeed=True)


class _Tasks:
    """Gives out tasks, again when their workers die, and says meanwhile what they say."""

    def __init__(
        self, ray: Any, place: Place, sentinel: Path, watch: LogWatch, console: Console
    ) -> None:
        self.ray = ray
        self.sentinel = sentinel
        self.watch = watch
        self.console = console
        # Ray's own retries would be silent.
        given = {"num_gpus": 1} if place.num_gpus else {"num_cpus": 1}
        self._give = ray.remote(max_retries=0, **given)(_on_cluster)
        self.results: list[Any] = []

    def run(
        self, tasks: Sequence[tuple[str, Callable[..., Any], tuple]], must_succeed: bool = False
    ) -> None:
        """Do tasks of (what it is called, function, arguments); `results` are what they return.

        A failure is reported and left to the end of the sweep, unless they `must_succeed`.
        """
        self.results = [None] * len(tasks)
        self._deaths = [0] * len(tasks)
        under_way = {self._submit(*task[1:]): index for index, task in enumerate(tasks)}
        try:
            while under_way:
                ready, _ = self.ray.wait(list(under_way), timeout=0.5)
                self.watch.look()
                for reference in ready:
                    index = under_way.pop(reference)
                    if self._ended(reference, index, tasks[index][0], must_succeed):
                        continue
                    under_way[self._submit(*tasks[index][1:])] = index
        finally:
            for reference in under_way:
                self.ray.cancel(reference, force=True)

    def _submit(self, function: Callable[..., Any], arguments: tuple) -> Any:
        return self._give.remote(str(self.sentinel), function, arguments)

    def _ended(self, reference: Any, index: int, name: str, must_succeed: bool) -> bool:
        """Whether a task is over; False when it is to be given out again."""
        errors = self.ray.exceptions
        try:
            self.results[index] = self.ray.get(reference)
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if must_succeed:
                raise cause from None
            self.console.print(
                f"warning: {name} failed ({in_one_line(cause)}); tried again at the end"
            )
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.LocalRayletDiedError,
        ) as error:
            self._deaths[index] += 1
            if self._deaths[index] > MAX_RETRIES:
                raise RuntimeError(
                    f"{name}: {self._deaths[index]} workers died one after another, the last with "
                    f"{type(error).__name__}; what was finished is in the ledger, and the same "
                    "command goes on"
                ) from None
            self.console.print(
                f"warning: the worker of {name} died ({type(error).__name__}); given out again"
            )
            return False
        return True


@contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[dict[str, float]]:
    """Join the cluster at `address`, or start one on this machine; gives its resources."""
    own = {"include_dashboard": False, "object_store_memory": NEEDED_BYTES_OF_OBJECT_STORE}
    where = address
    try:
        if address is not None:
            where = _where(address)
            _knock(where)
    except OSError as error:
        raise ValueError(
            f"--workers: no Ray cluster answers at {where} ({_in_short(error)}); start one with "
            "`ray start --head`, or say --workers ray for one of your own"
        ) from None
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **(own if address is None else {}),
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"--workers: the Ray cluster at {where or 'this machine'} does not take us in "
            f"({_in_short(error)}); the logs of its head, by default below /tmp/ray, say more"
        ) from None
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()


def _where(address: str) -> str:
    """The address that `auto` stands for, by Ray's own rules; every other stays as it is.

    Raises:
        ConnectionError: when nothing says where a cluster is.
    """
    if address != "auto":
        return address
    from ray._private.services import get_ray_address_from_environment

    return get_ray_address_from_environment("auto", None)


def _knock(address: str) -> None:
    """Ask whether anybody listens: Ray itself would try for minutes.

    Raises:
        OSError: when nobody does.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    port = place.port or (CLIENT_PORT if address.startswith("ray://") else HEAD_PORT)
    with socket.create_connection((place.hostname, port), timeout=10):
        pass


def _in_short(error: Exception) -> str:
    """The last line, because the head's answers are whole tracebacks."""
    lines = str(error).strip().splitlines()
    return " ".join(lines[-1].split()) if lines else type(error).__name__


@contextmanager
def _sentinel(settings: SweepSettings) -> Iterator[Path]:
    """A file in `--out` by which a task knows that it sees the same folder as we do."""
    path = settings.out / "workers" / f"seen-{uuid.uuid4().hex}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _place(resources: dict[str, float], nodes: Sequence[dict], device: str | None) -> Place:
    """One task a GPU; on a cluster without GPUs, one a CPU."""
    kind = "GPU" if resources.get("GPU") and device != "cpu" else "CPU"
    most = max(int(node["Resources"].get(kind, 0)) for node in nodes if node["Alive"])
    return Place(max(1, int(resources.get(kind, 1))), max(1, most), int(kind == "GPU"))


def _on_cluster(sentinel: str, function: Callable[..., Any], arguments: tuple) -> Any:
    """The body of every task."""
    path = Path(sentinel)
    if not path.exists():
        raise ValueError(
            f"{os.uname().nodename} does not see --out {path.parent.parent}; name a folder that "
            "all machines of the cluster share"
        )
    return function(path.parent / f"{os.uname().nodename}-{os.getpid()}.log", *arguments)


def _plan(log: Path, settings: SweepSettings, name: str) -> list[list[str]]:
    """Ids of the runs of one backbone that are missing, in chunks that fit a device."""
    with logged(log) as console:
        job = _job(settings, name, console)
        missing = job.ledger.missing(job.runs)
        done = len(job.runs) - len(missing)
        console.print(f"{counted(len(job.runs), 'run')}, {done} of them already done")
        if not missing:
            return []
        limit = settings.recipe.max_subtokens
        train = encode_training_split(job.loaded, job.corpus, limit)
        width = first_width(job, train, len(missing))
        return [[run.id for run in stack] for stack in stacks(missing, width)]


def _train(log: Path, settings: SweepSettings, name: str, ids: Sequence[str]) -> None:
    """Train one chunk."""
    with logged(log) as console:
        job = _job(replace(settings, fuse=len(ids), workers=1), name, console)
        job.runs = [run for run in job.runs if run.id in ids]
        train_missing(job)


def _worker(log: Path, settings: SweepSettings) -> None:
    """Train whatever nobody else has under way."""
    take_part([settings], log)


def _finish(log: Path, settings: SweepSettings) -> None:
    """Do what is left, and score the test split."""
    with logged(log) as console:
        execute(settings, load_corpus(settings), console)


def _job(settings: SweepSettings, name: str, console: Console) -> Job:
    corpus, loaded = _loaded(replace(settings, fuse=None, workers=1), name)
    runs = runs_on(loaded, settings, corpus)
    job = Job(settings, corpus, loaded, runs, open_ledger(settings), console)
    refuse_other_weights(job)
    return job


@lru_cache(maxsize=1)
def _loaded(settings: SweepSettings, name: str) -> tuple[Corpus, LoadedBackbone]:
    """Kept in a worker between its tasks, because a backbone takes long to load."""
    return load_corpus(settings), load_one(settings, name)
