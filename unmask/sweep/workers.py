"""Several processes on one machine share the runs of a sweep.

Workers are processes of their own that do the same sweep; the claims on runs keep them apart,
and the ledger takes records from all. What a worker that died had under way is taken up by
another, from its checkpoint. Afterwards the caller does what is still missing, and the test split.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from unmask.errors import exit_code, in_one_line
from unmask.sweep.plan import SweepSettings

SEEDS_APART = 1000
"""Between the search seeds of two workers: with one seed they would propose the same."""


def work_together(settings: SweepSettings, console: Console) -> None:
    """Train with `settings.workers` processes, until nothing is missing; with one, do nothing.

    A worker that fails is reported and otherwise left to the others and to the caller.
    """
    if settings.workers == 1:
        return
    # Spawned: a forked process could not use CUDA, and would inherit locks and threads.
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(
            target=_work, args=(_settings_of(settings, index), log_path(settings, index))
        )
        for index in range(settings.workers)
    ]
    console.print(f"{len(processes)} workers, each with a log in {log_path(settings, 0).parent}")
    for process in processes:
        process.start()
    try:
        for index, process in enumerate(processes):
            process.join()
            if process.exitcode:
                console.print(
                    f"warning: worker {index} ended with exit code {process.exitcode}, see "
                    f"{log_path(settings, index)}; what it left is done here"
                )
    finally:
        for process in processes:
            process.terminate()
            process.join()


def log_path(settings: SweepSettings, index: int) -> Path:
    """Where a worker writes what it would say on stderr."""
    return settings.out / "workers" / f"worker-{index}.log"


def _settings_of(settings: SweepSettings, index: int) -> SweepSettings:
    search = settings.search
    if search is not None:
        search = replace(search, seed=search.seed + SEEDS_APART * index)
    return replace(settings, search=search, test="none", device=settings.device or _device(index))


def _device(index: int) -> str | None:
    """GPUs in turn where there are several."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{index % count}" if count > 1 else None


def _work(settings: SweepSettings, log: Path) -> None:
    """The body of a worker."""
    import torch

    from unmask.sweep.execute import execute, load_corpus

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0, closefd=False), write_through=True)
    torch.set_num_threads(max(1, torch.get_num_threads() // settings.workers))
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    try:
        execute(settings, load_corpus(settings), console)
    except Exception as error:
        console.print(f"error: {in_one_line(error)}")
        raise SystemExit(exit_code(error)) from None
