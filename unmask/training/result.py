"""What is written down of a run that ended, and said."""

from __future__ import annotations

from typing import Any

import torch

from unmask.results.run import Run, RunResult
from unmask.training.checkpoint import Progress
from unmask.training.environment import peak_memory_bytes


def run_result(
    run: Run,
    progress: Progress,
    validation: dict[str, Any],
    validation_seconds: float,
    environment: dict[str, str],
    device: torch.device,
) -> RunResult:
    """Of a run that `unmask.training.fit.fit` has trained.

    Args:
        run: which one.
        progress: how it went.
        validation: its scores.
        validation_seconds: what they took.
        environment: see `describe_environment`.
        device: where it was trained.
    """
    return RunResult(
        run=run,
        scores={"validation": validation},
        curves=_curves(progress),
        timings={
            "train_seconds": progress.seconds,
            "train_tokens": progress.tokens,
            "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
            "validation_seconds": validation_seconds,
            "peak_memory_bytes": peak_memory_bytes(device),
        },
        # `fit` trains nothing whose proof fails.
        environment={**environment, "mask_proof": "every layer agreed"},
        status="diverged" if progress.diverged else "finished",
    )


def in_one_line(result: RunResult, apart: str = "") -> str:
    """What came out, or that the run diverged; `apart` follows its name."""
    name = f"{result.run.name}{apart}"
    if result.status == "diverged":
        steps = len(result.curves["train_loss"])
        return (
            f"warning: {name} diverged: its loss or gradient was no finite number at "
            f"step {steps}; it counts for nothing (a smaller --learning-rate may help)"
        )
    f1, seconds = result.scores["validation"]["f1"], result.timings["train_seconds"]
    return f"done: {name}, validation F1 {f1:.3f}, {seconds:.3g} s of training"


def _curves(progress: Progress) -> dict[str, list[float]]:
    curves = {"train_loss": progress.train_loss}
    if progress.validation_f1:
        curves["validation_f1"] = progress.validation_f1
        curves["validation_step"] = list(map(float, progress.validation_step))
    return curves
