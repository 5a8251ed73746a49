"""Pre-train one of the pair, resumable at any moment, with checkpoints on the way.

Which chunks a micro-batch holds, what is masked and what dropout draws all follow from the seed
and the counters, so a run that was killed goes on to the same weights. The encoder and the decoder
of one seed see the same chunks in the same order. A GPU is never asked for anything within a step:
losses stay there until somebody wants to see them.
"""

from __future__ import annotations

import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unmask.backbones import quiet_transformers, torch_dtype
from unmask.errors import in_one_line, is_out_of_memory
from unmask.scale.chunks import Batches, Reader
from unmask.scale.language_models import (
    align_head,
    build,
    masked_token_loss,
    next_token_loss,
)
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
GPU_READ_SECONDS = 2.0
Report = Callable[[Progress, int], None]
"""Called with the progress and the number of all steps."""
Loss = Callable[..., Tensor]
"""Of the tensors of a micro-batch, see `unmask.scale.chunks`."""


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
    read_seconds: float | None = None,
    compiled: bool | None = None,
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
        report: called whenever losses were read.
        checkpoint_seconds: at most this much work is lost by a kill.
        read_seconds: between two reads of the losses of all steps since, which wait for the
            device; None: two seconds on a GPU, and after every step elsewhere.
        compiled: whether `torch.compile` makes the passes; None: on a GPU. Where it fails, a
            warning says so and passes are PyTorch's own.

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
    on_gpu = device.startswith("cuda")
    read_seconds = (GPU_READ_SECONDS if on_gpu else 0.0) if read_seconds is None else read_seconds
    compiled = on_gpu if compiled is None else compiled
    model = build(kind, settings, tokenizer).to(device).train()  # pyright: ignore[reportArgumentType]
    if on_gpu:
        align_head(model)
    parameters = dict(model.named_parameters())
    optimizer = build_optimizer(list(parameters.values()), recipe)
    progress = _resume(folder, run_id, parameters, optimizer) or Progress(run_id)
    if progress.steps == 0:
        _keep(model, tokenizer, folder / keep[0])
    reader = Reader(chunks, schedule, settings.seed)
    saved_at = read_at = time.monotonic()
    unread: list[Tensor] = []
    with Batches(kind, settings, reader, tokenizer, model.device, compiled) as batches:
        loss = _loss(kind, model, recipe.compute_dtype)
        if compiled and progress.steps < schedule.num_steps:
            loss = _compiled(loss, model, batches.take(progress.microbatches))
        while progress.steps < schedule.num_steps:
            unread.append(_step(loss, model, optimizer, batches, settings, progress))
            now = time.monotonic()
            is_kept = progress.steps in keep
            saves = is_kept or now - saved_at >= checkpoint_seconds
            is_last = progress.steps == schedule.num_steps
            if not (saves or is_last or now - read_at >= read_seconds):
                continue
            progress.train_loss += torch.stack(unread).tolist()  # waits for the device
            unread.clear()
            progress.seconds += time.monotonic() - read_at
            _check_finite(kind, progress)
            if is_kept:
                _keep(model, tokenizer, folder / keep[progress.steps])
            if saves:
                write_checkpoint(folder, progress, _state(parameters, optimizer))
                saved_at = time.monotonic()
            if report is not None:
                report(progress, schedule.num_steps)
            read_at = time.monotonic()
    return progress


def _step(
    loss: Loss,
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    settings: Pretraining,
    progress: Progress,
) -> Tensor:
    """One optimizer step: gradients of the micro-batches of its window, clipped.

    Returns:
        Their mean loss, on the device and not waited for.
    """
    recipe, schedule = settings.recipe, batches.reader.schedule
    losses: list[Tensor] = []
    window = schedule.window_size(progress.microbatches)
    for _ in range(window):
        at = progress.microbatches
        torch.manual_seed(settings.seed * 1_000_003 + at)  # dropout is the same after a resume
        tensors = batches.take(at)
        own = loss(*tensors)
        (own / window).backward()
        losses.append(own.detach())
        progress.microbatches += 1
        progress.tokens += tensors[0].numel()
    torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, progress.steps, schedule.num_steps)
    optimizer.step()
    optimizer.zero_grad()
    progress.steps += 1
    return torch.stack(losses).mean()


def _loss(kind: str, model: PreTrainedModel, compute_dtype: str) -> Loss:
    function = next_token_loss if kind == "decoder" else masked_token_loss

    def loss(*tensors: Tensor) -> Tensor:
        with autocast(model.device, compute_dtype):
            return function(model, *tensors)

    return loss


def _compiled(loss: Loss, model: PreTrainedModel, tensors: tuple[Tensor, ...]) -> Loss:
    """The same loss from `torch.compile`, tried forward and backward on one micro-batch."""
    # Whole, or a part that cannot be compiled would be left out in silence.
    made = torch.compile(loss, fullgraph=True, dynamic=False)
    try:
        made(*tensors).backward()
    except Exception as error:  # of many kinds, by what it failed in
        if is_out_of_memory(error):
            raise
        warnings.warn(
            f"pre-training goes on without torch.compile, which failed: {in_one_line(error)}",
            stacklevel=2,
        )
        return loss
    finally:
        model.zero_grad()
    return made


def _check_finite(kind: str, progress: Progress) -> None:
    for step, loss in enumerate(progress.train_loss, start=1):
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the {kind}'s loss is {loss} at step {step}; a smaller --learning-rate may help"
            )


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
