"""Several workers share the runs of a sweep: on this machine, on a Ray cluster, under SLURM.

Workers do the same sweep; the claims on runs keep them apart, and one ledger takes records from
all, so --out must be a folder that every machine sees. What a worker that died had under way is
taken up by another, from its checkpoint. When nothing is missing, the test split is scored once.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from unmask.data.sentence import Corpus
from unmask.errors import exit_code
from unmask.sweep.execute import execute_together, load_corpus
from unmask.sweep.plan import SweepSettings
from unmask.sweep.watch import LogWatch, logged

SEEDS_APART = 1000
"""Between the search seeds of two workers: with one seed they would propose the same."""

RAY = "ray"
SLURM = "slurm"


@dataclass(frozen=True)
class Workers:
    """Who does a sweep: the value of `--workers`.

    `kind` is None for processes on this machine. `count` is how many there are; None for Ray,
    which has as many as fit its cluster. `address` is where Ray's cluster is, None for one of
    its own. `options` are what SLURM is asked for.
    """

    kind: str | None = None
    count: int | None = 1
    address: str | None = None
    options: tuple[tuple[str, str], ...] = ()


def parse_workers(text: str) -> Workers:
    """The value of `--workers`.

    Raises:
        ValueError: for anything but a number, `ray`, `ray://ADDRESS` and `slurm:N,KEY=VALUE`.

    >>> parse_workers("ray://head:10001").address
    'ray://head:10001'
    >>> parse_workers("slurm:4,partition=gpu").options
    (('partition', 'gpu'),)
    """
    if text == RAY:
        return Workers(RAY, None)
    if text.startswith("ray://"):
        return Workers(RAY, None, "auto" if text == "ray://auto" else text)
    kind, _, rest = text.partition(":") if text.startswith(f"{SLURM}:") else (None, "", text)
    count, *options = rest.split(",")
    pairs = tuple((key, value) for key, _, value in (one.partition("=") for one in options))
    if not count.isdecimal() or (kind is None and pairs) or not all(v for _, v in pairs):
        raise ValueError(
            f"--workers takes a number of processes, ray, ray://auto, ray://HOST:PORT or "
            f"slurm:N,KEY=VALUE,..., got {text!r}"
        )
    return Workers(kind, int(count), None, pairs)


def do_sweeps(
    sweeps: Sequence[tuple[SweepSettings, Corpus]], workers: Workers, console: Console
) -> None:
    """Do what is missing of sweeps into one folder, with whoever is to do it.

    Raises:
        ModuleNotFoundError: naming the extra to install, when Ray or submitit is missing.
        Exception: whatever `execute_together` raises.
    """
    if sweeps[0][0].strategy is not None:
        from unmask.sweep.rank_processes import do_in_ranks

        if workers.kind is not None:
            raise ValueError(
                f"--strategy does not go with --workers {workers.kind}: start the command by "
                "torchrun on the machines that are to share the runs"
            )
        do_in_ranks(sweeps, console)
        return
    asked = [settings for settings, _ in sweeps]
    if workers.kind == RAY:
        from unmask.sweep.ray_tasks import do_on_ray

        for settings in asked:
            do_on_ray(settings, workers, console)
    elif workers.kind == SLURM:
        from unmask.sweep.slurm import do_on_slurm

        do_on_slurm(asked, workers, console)
    else:
        _share_among_processes(asked, console)
        alone = [(replace(settings, workers=1), corpus) for settings, corpus in sweeps]
        execute_together(alone, console)


def log_folder(settings: SweepSettings) -> Path:
    """Where workers write what they would say on stderr."""
    return settings.out / "workers"


def on_every_machine(settings: SweepSettings) -> SweepSettings:
    """The settings with whole paths: other machines start elsewhere in the tree than we did."""

    def whole(model: str) -> str:
        return str(Path(model).resolve()) if Path(model).is_dir() else model

    return replace(
        settings,
        model=whole(settings.model),
        baselines=tuple(map(whole, settings.baselines)),
        data_dir=settings.data_dir and settings.data_dir.resolve(),
        out=settings.out.resolve(),
    )


def part_of(settings: SweepSettings, index: int) -> SweepSettings:
    """A sweep for worker number `index`: everything but the test split, if nobody else does."""
    search = settings.search
    if search is not None:
        search = replace(search, seed=search.seed + SEEDS_APART * index)
    return replace(settings, search=search, test="none")


def take_part(sweeps: Sequence[SweepSettings], log: Path) -> None:
    """The body of a worker, in whatever process."""
    with logged(log) as console:
        execute_together([(settings, load_corpus(settings)) for settings in sweeps], console)


def _share_among_processes(sweeps: Sequence[SweepSettings], console: Console) -> None:
    """Train with as many processes as asked for, until nothing is missing; with one, do nothing.

    A worker that fails is reported and otherwise left to the others and to the caller.
    """
    count, folder = sweeps[0].workers, log_folder(sweeps[0])
    if count == 1:
        return
    # Spawned: a forked process could not use CUDA, and would inherit locks and threads.
    context = multiprocessing.get_context("spawn")
    parts = zip(*(_parts_on_this_machine(settings) for settings in sweeps), strict=True)
    processes = [
        context.Process(target=_process, args=(part, folder / f"worker-{index}.log"))
        for index, part in enumerate(parts)
    ]
    console.print(f"{len(processes)} workers, each with a log in {folder}")
    watch = LogWatch(folder, console)
    for process in processes:
        process.start()
    try:
        watch.until(lambda: not any(process.is_alive() for process in processes))
        for index, process in enumerate(processes):
            process.join()
            if process.exitcode:
                console.print(
                    f"warning: worker {index} ended with exit code {process.exitcode}, see "
                    f"{folder / f'worker-{index}.log'}; what it left is done here"
                )
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _parts_on_this_machine(settings: SweepSettings) -> Sequence[SweepSettings]:
    """One part a worker; GPUs in turn where there are several, and their memory shared."""
    import torch

    count, num_gpus = settings.workers, torch.cuda.device_count()
    on_cpu = settings.device == "cpu" or num_gpus == 0
    if on_cpu or settings.device is not None or num_gpus == 1:
        return [replace(part_of(settings, i), workers_per_device=count) for i in range(count)]
    sharing = -(-count // num_gpus)
    return [
        replace(part_of(settings, i), device=f"cuda:{i % num_gpus}", workers_per_device=sharing)
        for i in range(count)
    ]


def _process(sweeps: Sequence[SweepSettings], log: Path) -> None:
    import torch

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)  # what C libraries say goes there too
    torch.set_num_threads(max(1, torch.get_num_threads() // sweeps[0].workers))
    try:
        take_part(sweeps, log)
    except Exception as error:
        raise SystemExit(exit_code(error)) from None
