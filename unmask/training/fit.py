"""Train a stack of runs to the end: proof of the mask, resume, checkpoints, progress."""

from __future__ import annotations

import logging
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from unmask.model import UnmaskedForTokenClassification
from unmask.training.checkpoint import read_checkpoint, write_checkpoint
from unmask.training.module import FusedRuns, Trainee
from unmask.training.progress import ProgressBar
from unmask.training.validation import Validation, Watch

CHECKPOINT_SECONDS = 60.0
"""At most this much work of a stack is lost when the process is killed."""


def fit(
    model: UnmaskedForTokenClassification,
    trainees: Sequence[Trainee],
    folders: Sequence[Path] | None = None,
    show_progress: bool = True,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    watch: Watch | None = None,
) -> None:
    """Train every run of `model`; results are in the model and in each trainee's progress.

    Args:
        model: a stack with one run per trainee.
        trainees: what to train, in the order of the stack.
        folders: where each run keeps its checkpoint, and resumes from it when there is one.
        show_progress: a bar on a terminal, a line now and then elsewhere.
        checkpoint_seconds: time between checkpoints.
        watch: what to score every run on after each epoch; needed for recipes with patience.

    Raises:
        ValueError: for a recipe with patience and nothing to watch.
        RuntimeError: when a layer does not see what its configuration says; nothing is trained.
    """
    if watch is None and any(trainee.recipe.patience is not None for trainee in trainees):
        raise ValueError("a recipe with patience needs validation sentences: give watch=Watch(...)")
    for run in range(model.num_runs):
        model.verify_mask(run).check()
    module = FusedRuns(model, trainees)
    callbacks: list[Callback] = [ProgressBar()] if show_progress else []
    validation = None if watch is None else Validation(watch, folders)
    if validation is not None:
        callbacks.append(validation)  # before checkpoints, which store what it finds
    if folders is not None:
        _resume(module, folders)
        callbacks.append(_Checkpoints(folders, checkpoint_seconds))
    if trainees[0].recipe.gradient_checkpointing:
        # Non-reentrant: it checks what it recomputes. The route is held through backward anyway.
        _checkpointing(model.backbone, "enable")({"use_reentrant": False})
    model.train()
    with warnings.catch_warnings():
        # Batches are cut from lists in memory; loader processes would only copy them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
        _run(_trainer(model, callbacks), module)
    if validation is not None:
        validation.restore_best(module)
    model.eval()
    if trainees[0].recipe.gradient_checkpointing:
        _checkpointing(model.backbone, "disable")()


def _run(trainer: Trainer, module: FusedRuns) -> None:
    """Let Ctrl-C be Ctrl-C: Lightning makes exit code 1 of it, and ignores it from then on."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module)
    except SystemExit as ending:
        if not isinstance(ending.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _checkpointing(backbone: Any, verb: str) -> Callable[..., None]:
    """transformers 5.23 renamed these methods and warns of the old names, which 5.0 has."""
    renamed = getattr(backbone, f"activation_checkpointing_{verb}", None)
    return renamed or getattr(backbone, f"gradient_checkpointing_{verb}")


def _trainer(model: UnmaskedForTokenClassification, callbacks: list[Callback]) -> Trainer:
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    on_gpu = model.device.type == "cuda"
    return Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=[model.device.index or 0] if on_gpu else 1,
        max_epochs=1,
        callbacks=callbacks,
        # Lightning's own checkpoints are pickles of the whole module, backbone included.
        enable_checkpointing=False,
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        enable_model_summary=False,
        logger=False,
    )


def _resume(module: FusedRuns, folders: Sequence[Path]) -> None:
    for trainee, optimizer, folder in zip(
        module.trainees, module.run_optimizers, folders, strict=True
    ):
        found = read_checkpoint(folder, trainee.progress.run_id)
        if found is not None:
            trainee.progress, tensors = found
            optimizer.load(tensors)


class _Checkpoints(Callback):
    """Writes each run at the first end of a window after its time, and all of them at the end."""

    def __init__(self, folders: Sequence[Path], seconds: float) -> None:
        self.folders = folders
        self.seconds = seconds
        self.written = [time.monotonic()] * len(folders)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self._write(pl_module, self.seconds)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write(pl_module, 0.0)

    def _write(self, module: Any, seconds: float) -> None:
        for run, (trainee, optimizer, folder) in enumerate(
            zip(module.trainees, module.run_optimizers, self.folders, strict=True)
        ):
            is_due = time.monotonic() - self.written[run] >= seconds
            if is_due and not trainee.window_losses:
                write_checkpoint(folder, trainee.progress, optimizer.tensors())
                self.written[run] = time.monotonic()
