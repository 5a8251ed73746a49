"""Train a stack of runs to the end: proof of the mask, resume, checkpoints, progress."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from unmask.labeler_stack import LabelerStack
from unmask.ranks import Ranks
from unmask.training.checkpoint import read_checkpoint, write_checkpoint
from unmask.training.module import FusedRuns, Trainee
from unmask.training.progress import ProgressBar
from unmask.training.validation import Validation, Watch

CHECKPOINT_SECONDS = 60.0
"""About this much work of a stack is lost when the process is killed."""
SHARE_OF_TIME = 0.05
"""The most that writing checkpoints may take; then more is lost."""


@dataclass(frozen=True)
class Successor:
    """What takes the place of a run that ended; the model has begun it there."""

    trainee: Trainee
    folder: Path


def fit(
    model: LabelerStack,
    trainees: Sequence[Trainee],
    folders: Sequence[Path] | None = None,
    show_progress: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    watch: Watch | None = None,
    on_end: Callable[[Sequence[int]], Mapping[int, Successor]] | None = None,
    more: Sequence[Callback] = (),
) -> None:
    """Train every run of `model`; results are in the model and in each trainee's progress.

    Args:
        model: a stack with one run per trainee.
        trainees: what to train, in the order of the stack.
        folders: where each run keeps its checkpoint, and resumes from it when there is one.
        show_progress: a bar on a terminal, a line now and then elsewhere.
        checkpoint_seconds: time between checkpoints.
        watch: what to score every run on after each epoch; needed for recipes with patience.
        on_end: called with the places of runs as soon as they have ended, while the others wait;
            gives what takes their places, if anything does.
        more: callbacks of the caller's.

    Raises:
        ValueError: for a recipe with patience and nothing to watch.
        RuntimeError: when a layer does not see what its configuration says; nothing is trained.
    """
    if watch is None and any(trainee.recipe.patience is not None for trainee in trainees):
        raise ValueError("a recipe with patience needs validation sentences: give watch=Watch(...)")
    ranks = Ranks.here()
    _prove(model, range(model.num_runs))
    module = FusedRuns(model, trainees)
    # Changed in place when a run takes the place of another.
    kept = None if folders is None else list(folders)
    callbacks: list[Callback] = [ProgressBar()] if show_progress and ranks.is_first else []
    validation = None if watch is None else Validation(watch, kept)
    if validation is not None:
        callbacks.append(validation)  # before checkpoints, which store what it finds
    if kept is not None:
        for run, folder in enumerate(kept):
            _resume(module, run, folder)
        if ranks.is_first:
            callbacks.append(_Checkpoints(kept, checkpoint_seconds))
    callbacks += more
    if on_end is not None:
        callbacks.append(_StopAtAnEnd())  # after validation, which may end a run
    under_way = set(range(len(module.trainees)))
    while under_way:
        ended = [run for run in sorted(under_way) if not module.trainees[run].active]
        under_way -= set(ended)
        if validation is not None:
            validation.restore_best(module, ended)
        if ended and on_end is not None:
            successors = on_end(ended)
            if successors:
                _prove(model, successors)
            for run, successor in successors.items():
                module.begin(run, successor.trainee)
                if kept is not None:
                    kept[run] = successor.folder
                    _resume(module, run, successor.folder)
                under_way.add(run)
        elif under_way:
            _train(model, module, callbacks)


def _prove(model: LabelerStack, runs: Iterable[int]) -> None:
    for proof in model.verify_masks(runs):
        proof.check()


def _train(model: LabelerStack, module: FusedRuns, callbacks: list[Callback]) -> None:
    """Until all runs are through or, when there is somebody to tell, the first is."""
    recomputes = module.trainees[0].recipe.gradient_checkpointing
    if recomputes:
        model.activation_checkpointing_enable()
    model.train()
    with warnings.catch_warnings():
        # Batches are cut from lists in memory; loader processes would only copy them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        # Of who trains on the CPU beside a GPU, as he asked.
        warnings.filterwarnings("ignore", message="GPU available but not used.*")
        try:
            _run(_trainer(model, callbacks), module)
        finally:
            model.eval()
            if recomputes:
                model.activation_checkpointing_disable()


def _run(trainer: Trainer, module: FusedRuns) -> None:
    """Let Ctrl-C be Ctrl-C: Lightning makes exit code 1 of it, and ignores it from then on.

    And let SIGTERM be somebody's who has a handler of his own: submitit, for one, lets it pass,
    because what comes next puts the job back into the queue.
    """
    handler, on_term = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        trainer.fit(module)
    except SIGTERMException:
        if not callable(on_term):
            raise
    except SystemExit as ending:
        if not isinstance(ending.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _trainer(model: LabelerStack, callbacks: list[Callback]) -> Trainer:
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    on_gpu = model.device.type == "cuda"
    return Trainer(
        # Lightning moves the model to the device of its accelerator.
        accelerator={"cuda": "gpu", "mps": "mps"}.get(model.device.type, "cpu"),
        devices=[model.device.index or 0] if on_gpu else 1,
        max_epochs=1,
        callbacks=callbacks,
        # Lightning's own checkpoints are pickles of the whole module, backbone included.
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        logger=False,
        # Under SLURM Lightning would find another one, and requeue jobs by its own checkpoints.
        plugins=[LightningEnvironment()],
    )


def _resume(module: FusedRuns, run: int, folder: Path) -> None:
    trainee = module.trainees[run]
    found = read_checkpoint(folder, trainee.progress.run_id)
    if found is not None:
        trainee.progress, tensors = found
        module.run_optimizers[run].load(tensors)


class _StopAtAnEnd(Callback):
    """Stops the loop when a run ends that was under way when it began."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.under_way = _num_active(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        trainer.should_stop = _num_active(pl_module) < self.under_way


def _num_active(module: Any) -> int:
    return sum(trainee.active for trainee in module.trainees)


class _Checkpoints(Callback):
    """Writes each run at the first end of a window after its time, and when it ends.

    80 adapters of rank 64 for SmolLM2 with their states are 3.5 GB, a quarter of a minute on the
    way: where writing takes long it is done less often.

    `folders` changes when a run takes the place of another.
    """

    def __init__(self, folders: Sequence[Path], seconds: float) -> None:
        self.folders = folders
        self.seconds = seconds
        self.written = [time.monotonic()] * len(folders)
        self.took = [0.0] * len(folders)
        self.ended: set[str] = set()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        module: Any = pl_module
        now, pause = time.monotonic(), self._pause()
        for run, (trainee, optimizer, folder) in enumerate(
            zip(module.trainees, module.run_optimizers, self.folders, strict=True)
        ):
            run_id = trainee.progress.run_id
            if run_id in self.ended or trainee.in_window:
                continue
            if trainee.active and now - self.written[run] < pause:
                continue
            began = time.monotonic()
            tensors = optimizer.tensors(with_state=not trainee.is_through)
            write_checkpoint(folder, trainee.progress, tensors)
            self.written[run] = time.monotonic()
            self.took[run] = self.written[run] - began if trainee.active else 0.0
            if not trainee.active:
                self.ended.add(run_id)

    def _pause(self) -> float:
        """Seconds from one checkpoint of a run to the next, in which all others have theirs."""
        return max(self.seconds, sum(self.took) / SHARE_OF_TIME) if self.seconds else 0.0
