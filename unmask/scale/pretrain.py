"""Pre-train one of the pair, resumable at any moment, with checkpoints on the way.

Which chunks a micro-batch holds, what is masked and what dropout draws all follow from the seed
and the counters, so a run that was killed goes on to the same weights. The encoder and the decoder
of one seed see the same chunks in the same order.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unmask.backbones import quiet_transformers, torch_dtype
from unmask.scale.language_models import build, mask_tokens, masked_token_loss, next_token_loss
from unmask.scale.settings import Pretraining
from unmask.training.batches import Schedule
from unmask.training.checkpoint import (
    Progress,
    delete_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from unmask.training.optimizer import build_optimizer, learning_rate

CHECKPOINT_SECONDS = 300.0
Report = Callable[[Progress, int], None]
"""Called after every optimizer step with the progress and the number of all steps."""


@dataclass
class Reader:
    """Micro-batches of chunks in an order that follows from the seed alone."""

    chunks: np.ndarray
    """[chunks, length]."""
    schedule: Schedule
    seed: int
    _epoch: int = -1

    def batch(self, microbatch: int) -> np.ndarray:
        """int64 [at most batch_size, length]."""
        epoch, within = divmod(microbatch, self.schedule.microbatches_per_epoch)
        if epoch != self._epoch:  # an order of millions of chunks is not drawn for every batch
            generator = np.random.default_rng([self.seed, epoch])
            self._order, self._epoch = generator.permutation(len(self.chunks)), epoch
        size = self.schedule.batch_size
        # Sorted within the batch: neighbours on disk are read together.
        places = np.sort(self._order[within * size : (within + 1) * size])
        return self.chunks[places].astype(np.int64)


def checkpoint_steps(schedule: Schedule, per_epoch: int) -> list[int]:
    """Optimizer steps after which weights are kept: 0, then `per_epoch` equally spaced an epoch.

    Raises:
        ValueError: when an epoch has fewer steps than checkpoints.

    >>> checkpoint_steps(Schedule(num_sentences=40, batch_size=4, accumulation=1, epochs=2), 5)
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20]
    """
    if schedule.steps_per_epoch < per_epoch:
        raise ValueError(
            f"an epoch has {schedule.steps_per_epoch} steps, too few for {per_epoch} checkpoints: "
            "give more text, or lower --checkpoints-per-epoch, --batch-size or --accumulation"
        )
    count = schedule.epochs * per_epoch
    total = schedule.steps_per_epoch * schedule.epochs
    steps = [round(index * total / count) for index in range(count + 1)]
    return [step for step in steps if step <= schedule.num_steps]


def pretrain(
    kind: str,
    settings: Pretraining,
    chunks: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    run_id: str,
    device: str = "cpu",
    report: Report | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Progress:
    """Train from nothing, or from where an earlier call was stopped, to the end.

    Args:
        kind: "encoder" or "decoder".
        settings: shape, constants, seed.
        chunks: [chunks, length] from `TokenFile.chunks`.
        tokenizer: of the chunks; saved with every checkpoint.
        folder: gets one folder a checkpoint ("00", "01", ...) in transformers' own format.
        run_id: of this pre-training; a checkpoint of another one is refused.
        device: "cpu" or "cuda".
        report: called after every optimizer step.
        checkpoint_seconds: at most this much work is lost by a kill.

    Raises:
        ValueError: when the text is too small for the checkpoints, or `folder` holds another run.
        FloatingPointError: when the loss is no finite number.
    """
    recipe = settings.recipe
    schedule = Schedule.of(recipe, len(chunks))
    keep = {
        step: f"{n:02d}"
        for n, step in enumerate(checkpoint_steps(schedule, settings.checkpoints_per_epoch))
    }
    model = build(kind, settings, tokenizer).to(device).train()  # pyright: ignore[reportArgumentType]
    parameters = dict(model.named_parameters())
    optimizer = build_optimizer(list(parameters.values()), recipe)
    progress = _resume(folder, run_id, parameters, optimizer) or Progress(run_id)
    if progress.steps == 0:
        _keep(model, tokenizer, folder / keep[0])
    reader = Reader(chunks, schedule, settings.seed)
    saved_at = time.monotonic()
    while progress.steps < schedule.num_steps:
        started = time.monotonic()
        loss = _step(kind, model, optimizer, reader, tokenizer, settings, progress)
        progress.train_loss.append(loss)
        progress.seconds += time.monotonic() - started
        if not np.isfinite(loss):
            raise FloatingPointError(
                f"the {kind}'s loss is {loss} at step {progress.steps}; a smaller --learning-rate "
                "may help"
            )
        if progress.steps in keep:
            _keep(model, tokenizer, folder / keep[progress.steps])
        if time.monotonic() - saved_at >= checkpoint_seconds or progress.steps in keep:
            write_checkpoint(folder, progress, _state(parameters, optimizer))
            saved_at = time.monotonic()
        if report is not None:
            report(progress, schedule.num_steps)
    return progress


def _step(
    kind: str,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    reader: Reader,
    tokenizer: PreTrainedTokenizerBase,
    settings: Pretraining,
    progress: Progress,
) -> float:
    """One optimizer step: gradients of the micro-batches of its window, clipped."""
    recipe, losses = settings.recipe, []
    window = reader.schedule.window_size(progress.microbatches)
    for _ in range(window):
        at = progress.microbatches
        torch.manual_seed(settings.seed * 1_000_003 + at)  # dropout is the same after a resume
        tokens = reader.batch(at)
        with autocast(model.device, recipe.compute_dtype):
            loss = _loss(kind, model, tokens, tokenizer, settings, at)
        (loss / window).backward()
        losses.append(loss.detach())
        progress.microbatches += 1
        progress.tokens += tokens.size
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, progress.steps, reader.schedule.num_steps)
    optimizer.step()
    optimizer.zero_grad()
    progress.steps += 1
    return torch.stack(losses).mean().item()


def _loss(
    kind: str,
    model: PreTrainedModel,
    tokens: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    settings: Pretraining,
    microbatch: int,
) -> Tensor:
    device = model.device
    if kind == "decoder":
        return next_token_loss(model, torch.from_numpy(tokens).to(device, non_blocking=True))
    generator = np.random.default_rng([settings.seed, microbatch, 1])
    pair = mask_tokens(tokens, tokenizer, settings.mlm_probability, generator)
    seen, targets = (torch.from_numpy(part).to(device, non_blocking=True) for part in pair)
    return masked_token_loss(model, seen, targets)


def autocast(device: torch.device, compute_dtype: str) -> Any:
    """Weights stay in float32; products are computed in `compute_dtype`."""
    if compute_dtype == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch_dtype(compute_dtype))


def _keep(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save weights in one move; what a killed call left half written is replaced."""
    beside = folder.with_suffix(".partial")
    shutil.rmtree(beside, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    (beside / "generation_config.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)


def _state(parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = {f"weight/{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            state[f"state/{key}/{name}"] = value
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in state.items()}


def _resume(
    folder: Path,
    run_id: str,
    parameters: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> Progress | None:
    found = read_checkpoint(folder, run_id)
    if found is None:
        return None
    progress, tensors = found
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weight/{name}"])
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "state":
            field, _, name = rest.partition("/")
            parameter = parameters[name]
            optimizer.state[parameter][field] = tensor.to(parameter.device)
    return progress


def forget_state(folder: Path) -> None:
    """Delete the optimizer's state of a finished pre-training; its checkpoints stay."""
    delete_checkpoint(folder)
