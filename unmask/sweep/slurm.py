"""A sweep as SLURM jobs, through submitit.

Every job is a whole worker: it takes what no other has, until nothing is missing. A job that
reaches its time limit or is preempted is put back into the queue by submitit, and goes on from
the checkpoints. One more job then scores the test split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.sweep.extras import import_extra
from unmask.sweep.plan import SweepSettings
from unmask.sweep.watch import LogWatch
from unmask.sweep.workers import Workers, log_folder, on_every_machine, part_of, take_part

MINUTES = 24 * 60
"""Of a job where `timeout_min` is not given; submitit's own five are too few to train."""

MAX_REQUEUES = 1000
"""After time limits and preemptions, which cost nothing."""


class Worker:
    """What a job calls; submitit calls `checkpoint` before the job is taken away."""

    def __call__(self, sweeps: Sequence[SweepSettings], log: Path) -> None:
        """Do the worker's part."""
        take_part(sweeps, log)

    def checkpoint(self, sweeps: Sequence[SweepSettings], log: Path) -> Any:
        """The same again: what is done is known from the ledger and the checkpoints."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, sweeps, log)


def do_on_slurm(sweeps: Sequence[SweepSettings], workers: Workers, console: Console) -> None:
    """Train what is missing with `workers.count` jobs, then score the test split in one more.

    Raises:
        ModuleNotFoundError: without submitit.
        ValueError: for an option that submitit does not know, or where there is no SLURM.
        RuntimeError: when the last job fails.
    """
    submitit = import_extra("submitit", "slurm")
    sweeps = [on_every_machine(settings) for settings in sweeps]
    folder = log_folder(sweeps[0])
    executor = _executor(submitit, folder, workers)
    watch = LogWatch(folder, console)
    parts = [[part_of(one, index) for one in sweeps] for index in range(sweeps[0].workers)]
    failures = _submit_and_wait(executor, parts, "worker", watch)
    for failure in failures:
        console.print(f"warning: {failure}; what it left is done by another")
    whole = [replace(settings, workers=1) for settings in sweeps]
    last = _submit_and_wait(executor, [whole], "last", watch)
    if last:
        raise RuntimeError(last[0])


def _executor(submitit: Any, folder: Path, workers: Workers) -> Any:
    options = dict(workers.options)
    cluster = options.pop("cluster", "slurm")
    shared = submitit.AutoExecutor._typed_parameters()
    given: dict[str, Any] = {"name": "unmask", "timeout_min": MINUTES}
    for key, value in options.items():
        name = key if key in shared else f"slurm_{key}"
        given[name] = int(value) if value.isdecimal() else value
    try:
        executor = submitit.AutoExecutor(
            folder / "%j", cluster=cluster, slurm_max_num_timeout=MAX_REQUEUES
        )
        executor.update_parameters(**given)
    except (NameError, AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"--workers slurm: {' '.join(str(error).split())}") from None
    return executor


def _submit_and_wait(
    executor: Any, parts: Sequence[Sequence[SweepSettings]], name: str, watch: LogWatch
) -> list[str]:
    """What went wrong with each job that failed, in a line."""
    try:
        with executor.batch():  # one array of jobs
            jobs = [
                executor.submit(Worker(), part, watch.folder / f"{name}-{index}.log")
                for index, part in enumerate(parts)
            ]
    except RuntimeError as error:  # of `sbatch`: no such partition, no such account, no answer
        raise ValueError(f"--workers slurm: {' '.join(str(error).split())}") from None
    try:
        watch.until(lambda: all(job.done() for job in jobs))
    except BaseException:
        for job in jobs:
            job.cancel(check=False)
        raise
    failed = [(job, job.exception()) for job in jobs]
    return [
        f"job {job.job_id} ended ({job.state}): {_reason(error)}; see {job.paths.stderr}"
        for job, error in failed
        if error is not None
    ]


def _reason(error: Exception) -> str:
    """The last line of the job's own trace, which submitit puts between two lines of dashes."""
    parts = re.split("^-{10,}$", str(error), flags=re.MULTILINE)
    return parts[1].strip().splitlines()[-1] if len(parts) == 3 else "it left no result"
