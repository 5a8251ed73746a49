"""How far, how fast, how long still: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from unmask.results.run import RunResult
from unmask.scale.pretrain import Progress as TrainingProgress

SECONDS_BETWEEN_LINES = 20.0


class Meter:
    """Shows one piece of work; use it as a context."""

    def __init__(
        self, console: Console, title: str, seconds_between_lines: float = SECONDS_BETWEEN_LINES
    ) -> None:
        self.console = console
        self.title = title
        self.seconds_between_lines = seconds_between_lines
        self.started = self.last_line = time.monotonic()
        self.first: tuple[int, int] | None = None
        self.bar: Progress | None = None

    def __enter__(self) -> Meter:
        if self.console.is_terminal:
            self.bar = Progress(
                TextColumn(self.title),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=None, facts="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def show(self, progress: TrainingProgress, num_steps: int) -> None:
        """A step of pre-training."""
        if self.first is None:  # what a killed call had done took none of this call's time
            self.first = (progress.steps - 1, progress.tokens)
            self.started = time.monotonic()
        tokens = progress.tokens - self.first[1]
        speed = tokens / max(time.monotonic() - self.started, 1e-9)
        facts = f"loss {progress.train_loss[-1]:.3f}, {speed:,.0f} tokens a second"
        self._show(progress.steps, num_steps, self.first[0], facts)

    def show_part(self, done: float, total: int) -> None:
        """Fine-tunings on their way, parts of them counted."""
        self._show(done, total, 0, "in training")

    def show_run(self, result: RunResult, done: int, total: int) -> None:
        """A fine-tuning that ended."""
        f1 = result.scores["validation"]["f1"]
        self._show(done, total, 0, f"{result.run.name}: validation F1 {f1:.3f}")

    def _show(self, done: float, total: int, done_before: int, facts: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total, facts=facts)
            return
        now = time.monotonic()
        if now - self.last_line < self.seconds_between_lines and done < total:
            return
        self.last_line = now
        left = (now - self.started) / max(done - done_before, 1e-9) * (total - done)
        self.console.print(f"{self.title}: {done:.0f}/{total}, {facts}, {_duration(left)} left")


def _duration(seconds: float) -> str:
    """Hours and minutes, or seconds where it is short.

    >>> _duration(42.3), _duration(4000)
    ('42 s', '1 h 07 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
