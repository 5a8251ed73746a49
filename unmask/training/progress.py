"""What is being trained, how far, at what loss, and how long it will take."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 20.0


class ProgressBar(LightningProgressBar):
    """A rich bar on a terminal; elsewhere a line every twenty seconds. Writes to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.started = self.last_line = time.monotonic()
        self.steps_at_start = 0

    def disable(self) -> None:
        """Nothing to do: the bar is only made where it is wanted."""

    def enable(self) -> None:
        """Nothing to do, see `disable`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        self.started = self.last_line = time.monotonic()
        done, total = _steps(pl_module)
        self.steps_at_start = done
        if sys.stderr.isatty():
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("loss {task.fields[loss]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.bar.start()
            self.task = self.bar.add_task(_title(pl_module), total=total, completed=done, loss="-")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Moves the bar."""
        done, total = _steps(pl_module)
        if self.bar is not None:
            self.bar.update(self.task, completed=done, loss=_loss(pl_module))
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.console.print(
                f"{_title(pl_module)}: step {done}/{total}, loss {_loss(pl_module)}, "
                f"{self._seconds_left(done, total):.0f} s left",
                highlight=False,
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.stop()

    def _seconds_left(self, done: int, total: int) -> float:
        elapsed = time.monotonic() - self.started
        return elapsed / max(done - self.steps_at_start, 1) * (total - done)


def _title(module: Any) -> str:
    names = [trainee.name for trainee in module.trainees]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _steps(module: Any) -> tuple[int, int]:
    """Steps done and to do of the run that is furthest from its end."""
    pairs = [(t.progress.steps, t.schedule.num_steps) for t in module.trainees if t.active]
    pairs = pairs or [(t.progress.steps, t.progress.steps) for t in module.trainees]
    return max(pairs, key=lambda pair: pair[1] - pair[0])


def _loss(module: Any) -> str:
    losses = [t.progress.train_loss[-1] for t in module.trainees if t.progress.train_loss]
    return f"{sum(losses) / len(losses):.4f}" if losses else "-"
