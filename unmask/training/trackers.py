"""Learning curves while a run trains: a CSV file always, TensorBoard and Weights & Biases by name.

Runs of one stack train together, yet each has a curve of its own. The one thing that is easy to
get wrong: a run that was killed goes on from its checkpoint, so steps that it takes again must
replace those it took before, not follow them.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from unmask.ranks import Ranks
from unmask.training.module import Trainee
from unmask.training.optimizer import learning_rate

CURVES_FILE = "curves.csv"
TRACKERS = ("tensorboard", "wandb")
PROJECT = "unmask"
COLUMNS: list[str] = ["step", "train_loss", "learning_rate", "validation_f1"]


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run before it begins."""

    id: str
    name: str
    settings: dict[str, Any]
    folder: Path
    """Where the run keeps its files."""
    log_folder: Path
    """Where trackers keep those of all runs."""


class Tracker(Protocol):
    """Takes the curve of one run."""

    def begin(self, run: TrackedRun, history: Sequence[dict[str, float]]) -> None:
        """The run begins, or goes on after the steps in `history`."""
        ...

    def log(self, values: dict[str, float]) -> None:
        """Values of one step; `step` is among them, and counts from 1."""
        ...

    def end(self) -> None:
        """Nothing more comes for now."""
        ...


class CsvTracker:
    """`curves.csv` in the run's folder, a row a step."""

    def begin(self, run: TrackedRun, history: Sequence[dict[str, float]]) -> None:
        """Write the rows so far anew: what a kill left behind them is gone."""
        run.folder.mkdir(parents=True, exist_ok=True)
        # Line by line on disk, so that the file can be watched.
        self.file = (run.folder / CURVES_FILE).open("w", buffering=1, encoding="utf-8", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, lineterminator="\n")
        self.writer.writeheader()
        self.writer.writerows(history)

    def log(self, values: dict[str, float]) -> None:
        """Add a row."""
        self.writer.writerow(values)

    def end(self) -> None:
        """Close the file."""
        self.file.close()


class TensorBoardTracker:
    """Scalars below `tensorboard/` in the sweep's folder, for `tensorboard --logdir`."""

    def begin(self, run: TrackedRun, history: Sequence[dict[str, float]]) -> None:
        """Open an event file that hides those before it: a kill may have cost them their end."""
        folder = run.log_folder / "tensorboard" / run.name.replace("/", "_") / run.id
        tensorboard = importlib.import_module("torch.utils.tensorboard")
        self.writer = tensorboard.SummaryWriter(str(folder), purge_step=0)
        for values in history:
            self.log(values)

    def log(self, values: dict[str, float]) -> None:
        """One scalar a value."""
        for name, value in values.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(values["step"]))

    def end(self) -> None:
        """Flush and close."""
        self.writer.close()


class WandbTracker:
    """A run of Weights & Biases with our id, so that what goes on is the same run there.

    Steps are ours: what is told again after a kill has the same numbers and values. Offline every
    start has a folder of its own, of which the last one has everything.

    Project, mode and account are those that `wandb` is told by its own settings; without a
    project they are kept under `unmask`.
    """

    def begin(self, run: TrackedRun, history: Sequence[dict[str, float]]) -> None:
        """Start the run, or go on with it."""
        wandb = importlib.import_module("wandb")
        run.log_folder.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=wandb.setup().settings.project or PROJECT,
            id=run.id,
            name=run.name,
            config=run.settings,
            dir=str(run.log_folder),
            resume="allow",
            # Several runs of a stack are under way at once.
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        for values in history:
            if values["step"] >= self.run.step:  # the server has those before it
                self.log(values)

    def log(self, values: dict[str, float]) -> None:
        """All values of a step."""
        step = int(values["step"])
        self.run.log({name: value for name, value in values.items() if name != "step"}, step=step)

    def end(self) -> None:
        """Finish the run."""
        self.run.finish()


KINDS: dict[str, type[Tracker]] = {
    "csv": CsvTracker,
    "tensorboard": TensorBoardTracker,
    "wandb": WandbTracker,
}


class Curves(Callback):
    """Tells trackers of every optimizer step of every run of a stack.

    Args:
        describe: what trackers are told of a run, given its id.
        trackers: names of `TRACKERS`; the CSV file is written in any case.
    """

    def __init__(self, describe: Callable[[str], TrackedRun], trackers: Sequence[str] = ()) -> None:
        self.describe = describe
        self.names = ("csv", *trackers) if Ranks.here().is_first else ()
        self.under_way: dict[str, list[Tracker]] = {}
        self.told: dict[str, int] = {}
        """Steps told, by run id."""

    def __enter__(self) -> Curves:
        return self

    def __exit__(self, *exception: object) -> None:
        for run_id in list(self.under_way):
            self._end(run_id)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Checkpoints have been read by now: tell what they bring."""
        module: Any = pl_module
        for trainee in module.trainees:
            if trainee.active and trainee.progress.run_id not in self.told:
                self._begin(trainee)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Tell what was stepped."""
        module: Any = pl_module
        for trainee in module.trainees:
            run_id = trainee.progress.run_id
            while self.told.get(run_id, trainee.progress.steps) < trainee.progress.steps:
                self.told[run_id] += 1
                self._log(run_id, _values(trainee, self.told[run_id]))

    def scored(self, trainee: Trainee, validation_f1: float) -> None:
        """Tell what a run that has ended scored on validation, and no more of it."""
        if trainee.progress.run_id not in self.under_way:
            self._begin(trainee)
        values = {"step": trainee.progress.steps, "validation_f1": validation_f1}
        self._log(trainee.progress.run_id, values)
        self._end(trainee.progress.run_id)

    def _begin(self, trainee: Trainee) -> None:
        run = self.describe(trainee.progress.run_id)
        history = [_values(trainee, step) for step in range(1, trainee.progress.steps + 1)]
        self.told[run.id] = len(history)
        self.under_way[run.id] = [KINDS[name]() for name in self.names]
        for tracker in self.under_way[run.id]:
            tracker.begin(run, history)

    def _log(self, run_id: str, values: dict[str, float]) -> None:
        for tracker in self.under_way[run_id]:
            tracker.log(values)

    def _end(self, run_id: str) -> None:
        for tracker in self.under_way.pop(run_id):
            tracker.end()


def check_trackers(names: Sequence[str]) -> None:
    """Refuse what there is not, before hours of training.

    Raises:
        ValueError: for an unknown name.
        ModuleNotFoundError: saying what to install.
    """
    for name in names:
        if name not in TRACKERS:
            raise ValueError(
                f"--track takes {', '.join(TRACKERS)} (CSV is always written), got {name!r}"
            )
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f"{name} is not installed: pip install 'unmask[track]'", name=name
            )


def _values(trainee: Trainee, step: int) -> dict[str, float]:
    """Of a step that is done, counted from 1; with a validation F1 where an epoch ended there."""
    progress = trainee.progress
    values = {
        "step": step,
        "train_loss": progress.train_loss[step - 1],
        "learning_rate": learning_rate(trainee.recipe, step - 1, trainee.schedule.num_steps),
    }
    if step in progress.validation_step:
        at = progress.validation_step.index(step)
        values["validation_f1"] = progress.validation_f1[at]
    return values
