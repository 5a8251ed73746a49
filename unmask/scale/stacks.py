"""Work off fine-tunings stack by stack: how wide, how far, and what came out of each.

A stack holds runs of one checkpoint, those of a decoder with and without its mask side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult
from unmask.scale.finetune import Finetuning
from unmask.scale.meter import Meter
from unmask.scale.plan import Checkpoint, missing
from unmask.training.estimate import bytes_in_words, free_memory
from unmask.training.module import FusedRuns
from unmask.training.out_of_memory import fits_in_memory
from unmask.training.result import in_one_line


class StackLoop:
    """Remembers how many runs fit; one halving instead of a crash when the estimate was wrong."""

    def __init__(self, finetuning: Finetuning, ledger: Ledger, console: Console) -> None:
        self.finetuning = finetuning
        self.ledger = ledger
        self.console = console

    def work_off(self, plan: Sequence[tuple[Checkpoint, Run]], fuse: int | None = None) -> None:
        """Train what the ledger lacks of `plan`, `fuse` runs at a time or as many as fit."""
        width = self._first_width(plan, fuse)
        with Meter(self.console, self.finetuning.corpus.name) as meter:
            while to_do := missing(self.ledger, plan):
                checkpoint = to_do[0][0]
                runs = evenly([run for one, run in to_do if one == checkpoint], width)
                done = len(plan) - len(to_do)
                work = partial(self._do, checkpoint, runs, _Steps(meter, done, len(plan)))
                if fits_in_memory(work, len(runs)):
                    continue
                width = len(runs) // 2
                self.console.print(
                    f"warning: out of memory; runs per forward pass from here: {width}"
                )

    def _do(self, checkpoint: Checkpoint, runs: Sequence[Run], steps: _Steps) -> None:
        for result in self.finetuning.train_stack(checkpoint, runs, [steps]):
            self.ledger.append_run(result)
            steps.ended(result)
            if result.status == "diverged":
                self.console.print(in_one_line(result))

    def _first_width(self, plan: Sequence[tuple[Checkpoint, Run]], fuse: int | None) -> int:
        """What was asked for or what fits, at most the runs of one checkpoint; said aloud."""
        checkpoints = [checkpoint for checkpoint, _ in plan]
        most = max(checkpoints.count(checkpoint) for checkpoint in set(checkpoints))
        cost = self.finetuning.cost(checkpoints[0])
        free = free_memory(torch.device(self.finetuning.device))
        width = min(fuse or cost.width(free, most), most)
        self.console.print(
            f"runs per forward pass: {width}, estimated {bytes_in_words(cost.bytes_per_run)} each; "
            f"{bytes_in_words(free)} are free"
        )
        return width


def evenly(runs: Sequence[Run], width: int) -> Sequence[Run]:
    """The first of as few stacks as `width` allows, all about as wide."""
    num_stacks = -(-len(runs) // width)
    return runs[: -(-len(runs) // num_stacks)]


class _Steps(Callback):
    """Tells the meter how far a stack is, in runs."""

    def __init__(self, meter: Meter, done: int, total: int) -> None:
        self.meter = meter
        self.done = done
        self.total = total

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, FusedRuns)
        parts = [t.progress.steps / t.schedule.num_steps for t in pl_module.trainees]
        self.meter.show_part(self.done + sum(parts), self.total)

    def ended(self, result: RunResult) -> None:
        """A run is scored and written down."""
        self.done += 1
        self.meter.show_run(result, self.done, self.total)
