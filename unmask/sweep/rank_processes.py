"""Processes with a device each that train every run of a sweep together, see `ranks`.

All of them do the whole sweep in step: what is missing, which runs make a stack and what a search
proposes is decided by the first one, which alone writes and speaks. The one thing that is easy to
get wrong: when one of them dies, the others wait for it for ever, so whoever started them ends
them, and says what the first failure was.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console

from unmask.console import for_notes
from unmask.data.sentence import Corpus
from unmask.errors import INTERRUPTED, USAGE_ERROR, exit_code, in_one_line
from unmask.sweep.execute import execute_together, load_corpus
from unmask.sweep.plan import SweepSettings
from unmask.sweep.strategy import follows

PATIENCE = timedelta(days=7)
"""With a process that is late: the first may wait for another sweep. One that died is noticed."""

SECONDS_BETWEEN_LOOKS = 0.1

Sweeps = Sequence[tuple[SweepSettings, Corpus]]


def do_in_ranks(sweeps: Sweeps, console: Console) -> None:
    """Do what is missing of sweeps with the processes of their strategy.

    Raises:
        ValueError: for more processes than GPUs, and whatever is wrong with the settings.
        RuntimeError: when a process died or failed.
    """
    strategy = sweeps[0][0].strategy
    assert strategy is not None
    if strategy.count is None:
        _join(sweeps)
        return
    _check_devices(sweeps[0][0], strategy.count)
    console.print(f"{strategy.count} processes train every run together ({strategy.kind})")
    with tempfile.TemporaryDirectory() as folder:
        context: Any = multiprocessing.get_context("spawn")
        errors = context.SimpleQueue()
        place = f"file://{folder}/meet"
        settings = [settings for settings, _ in sweeps]
        ranks = [
            context.Process(target=_rank, args=(rank, strategy.count, place, settings, errors))
            for rank in range(strategy.count)
        ]
        for process in ranks:
            process.start()
        try:
            failed = _first_to_fail(ranks)
            if failed is not None:
                _raise(failed, ranks[failed].exitcode, errors)
        finally:
            for process in ranks:
                process.terminate()
                process.join()


def _first_to_fail(processes: Sequence[BaseProcess]) -> int | None:
    """Wait until all have ended well, or one has not."""
    while True:
        codes = [process.exitcode for process in processes]
        killed = [rank for rank, code in enumerate(codes) if code is not None and code < 0]
        failed = [rank for rank, code in enumerate(codes) if code]
        if failed:
            return (killed or failed)[0]
        if all(code == 0 for code in codes):
            return None
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _raise(rank: int, code: int | None, errors: Any) -> None:
    """What went wrong first: the others lose their connection afterwards."""
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code is not None and code < 0:
        raise RuntimeError(
            f"process {rank} of those that train together was killed by signal {-code}; what was "
            "finished is in the ledger, and the same command goes on"
        )
    if errors.empty():
        raise RuntimeError(
            f"process {rank} of those that train together ended with exit code {code} and said "
            "nothing; what was finished is in the ledger, and the same command goes on"
        )
    kind, line, where = errors.get()
    raise (ValueError if kind == USAGE_ERROR else RuntimeError)(line) from Exception(where)


def _rank(rank: int, size: int, place: str, settings: Sequence[SweepSettings], errors: Any) -> None:
    """The body of each process."""
    torch.set_num_threads(max(1, torch.get_num_threads() // size))
    try:
        with _group(settings[0], rank, init_method=place, rank=rank, world_size=size) as device:
            own = [_on(device, one, size) for one in settings]
            _execute([(one, load_corpus(one)) for one in own], is_first=rank == 0)
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        errors.put((exit_code(error), in_one_line(error), traceback.format_exc()))
        raise SystemExit(exit_code(error)) from None


def _join(sweeps: Sweeps) -> None:
    """Be one of the processes that torchrun started."""
    settings, _ = sweeps[0]
    local_rank = int(os.environ["LOCAL_RANK"])
    with _group(settings, local_rank, init_method="env://") as device:
        size = int(os.environ["LOCAL_WORLD_SIZE"])
        own = [(_on(device, one, size), corpus) for one, corpus in sweeps]
        _execute(own, is_first=not follows())


def _on(device: str, settings: SweepSettings, size: int) -> SweepSettings:
    """The settings of a process; on CPUs all share the memory of the machine."""
    return replace(settings, device=device, workers_per_device=size if device == "cpu" else 1)


def _execute(sweeps: Sweeps, is_first: bool) -> None:
    execute_together(sweeps, for_notes(quiet=not is_first))


@contextmanager
def _group(settings: SweepSettings, local_rank: int, **where: Any) -> Iterator[str]:
    """A process group, and the name of this process' device."""
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    device = f"cuda:{local_rank}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(local_rank)
    # What is decided goes over gloo in any case.
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE, **where)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _check_devices(settings: SweepSettings, count: int) -> None:
    num_gpus = 0 if settings.device == "cpu" else torch.cuda.device_count()
    if 0 < num_gpus < count:
        raise ValueError(
            f"--strategy {settings.strategy} wants {count} GPUs, and this machine has {num_gpus}; "
            "over several machines torchrun starts the processes, with --strategy "
            f"{settings.strategy and settings.strategy.kind}"
        )
