"""Checkpoints of runs under way: trained weights and optimizer state, nothing of the backbone.

One safetensors file per run, written beside its place and renamed, so that a kill at any moment
leaves the old one or the new one. Batches and dropout follow from the counters inside, so they
and the weights are all that a run needs to go on exactly where it was.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

CHECKPOINT_FILE = "checkpoint.safetensors"
BEST_FILE = "best.safetensors"
"""The weights with the best validation F1 so far, where a run has patience."""
PARTIAL = ".partial"


@dataclass
class Progress:
    """Where a run is."""

    run_id: str
    microbatches: int = 0
    """Micro-batches done; always at the end of an accumulation window."""
    steps: int = 0
    train_loss: list[float] = field(default_factory=list)
    """One per optimizer step: the mean loss of its micro-batches."""
    seconds: float = 0.0
    tokens: int = 0
    diverged: bool = False
    validation_f1: list[float] = field(default_factory=list)
    """One per epoch, where validation is watched (`unmask.training.validation`)."""
    validation_step: list[int] = field(default_factory=list)
    """The optimizer step after which each of them was taken."""
    stopped: bool = False
    """Ended early, because validation F1 rose no more."""


def write_checkpoint(folder: Path, progress: Progress, tensors: dict[str, Tensor]) -> None:
    """Replace the checkpoint in `folder` in one move."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT_FILE
    beside = path.with_suffix(PARTIAL)
    data = save(tensors, metadata={"progress": json.dumps(asdict(progress))})
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    beside.replace(path)


def read_checkpoint(folder: Path, run_id: str) -> tuple[Progress, dict[str, Tensor]] | None:
    """The checkpoint in `folder`, or None when there is none.

    Raises:
        ValueError: when the file is damaged or belongs to another run.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it to start this run anew"
        ) from error
    if progress.run_id != run_id:
        raise ValueError(f"{path} is a checkpoint of run {progress.run_id}, not of {run_id}")
    return progress, tensors


def delete_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a finished run, and what a kill left of one being written."""
    path = folder / CHECKPOINT_FILE
    best = folder / BEST_FILE
    for leftover in (path, path.with_suffix(PARTIAL), best, best.with_suffix(PARTIAL)):
        leftover.unlink(missing_ok=True)
