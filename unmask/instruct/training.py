"""Fine-tuning of a causal language model on queries, with LoRA on the projections of a recipe.

The model is stock transformers and the adapter PEFT's, so anyone can load the result. The loss is
the mean over the trained tokens of a micro-batch; accumulation does not cross epochs.
"""

from __future__ import annotations

import json
import math
import random
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from unmask.backbones import LoadedBackbone, recomputing
from unmask.instruct.encoding import IGNORED, EncodedQuery, encode_training
from unmask.instruct.memory import memory_line
from unmask.instruct.packing import PACKINGS, Row, batch_rows
from unmask.instruct.prompts import Query
from unmask.instruct.system import System
from unmask.recipe import Recipe
from unmask.training.checkpoint import (
    Progress,
    delete_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from unmask.training.optimizer import (
    build_optimizer,
    learning_rate,
    load_tensors,
    saved_tensors,
)

SECONDS_BETWEEN_LINES = 20.0
SUMMARY_FILE = "tuning.json"


@dataclass(frozen=True)
class TuningSummary:
    """What came of a fine-tuning. Losses are one per optimizer step.

    Tokens are those that were worked through, once in every epoch, without padding; lost words
    and answers are those of the texts, once.
    """

    losses: list[float]
    seconds: float
    num_tokens: int
    num_trained_tokens: int
    num_rows: int
    num_lost_words: int
    num_lost_answers: int
    diverged: bool = False


def encode_queries(
    queries: Sequence[Query], system: System, tokenizer: Any, max_length: int
) -> list[EncodedQuery]:
    """Training texts of all queries.

    Raises:
        ValueError: when there is nothing to train on.
    """
    texts = [
        encode_training(query, system.in_loss(query), tokenizer, max_length) for query in queries
    ]
    if not any(label != IGNORED for text in texts for label in text.label_ids):
        raise ValueError(f"{len(texts)} queries hold no answer to train on; build them for train")
    return texts


def add_adapter(
    loaded: LoadedBackbone, recipe: Recipe, seed: int, start_from: Path | None = None
) -> Any:
    """The backbone with a LoRA adapter, which alone is trained.

    The adapter is fresh, drawn by `seed`, or that of an earlier stage, which is not changed.

    Raises:
        ValueError: when the earlier adapter is of another shape than the recipe says.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=list(recipe.lora_targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        # PEFT asks transformers for a name that transformers is about to drop.
        warnings.simplefilter("ignore", FutureWarning)
        if start_from is None:
            model = get_peft_model(loaded.model, config)
        else:
            _check_shape(start_from, recipe)
            model = PeftModel.from_pretrained(loaded.model, str(start_from), is_trainable=True)
    if recipe.gradient_checkpointing:
        recomputing(loaded.model, "enable")({"use_reentrant": False})
        model.enable_input_require_grads()
    return model


def _check_shape(folder: Path, recipe: Recipe) -> None:
    from peft import LoraConfig

    found: Any = LoraConfig.from_pretrained(str(folder))
    shape = (found.r, found.lora_alpha, tuple(sorted(found.target_modules or ())))
    wanted = (recipe.lora_rank, recipe.lora_alpha, tuple(sorted(recipe.lora_targets)))
    if shape != wanted:
        raise ValueError(
            f"the adapter in {folder} has rank, alpha and targets {shape}, the recipe {wanted}: "
            "give --lora-rank, --lora-alpha and --lora-targets of the first stage"
        )


@dataclass(frozen=True)
class Keeper:
    """Where a training that a kill may end leaves what it needs to go on."""

    folder: Path
    run_id: str
    seconds_between: float = 60.0


def tune(
    model: Any,
    texts: Sequence[EncodedQuery],
    system: System,
    recipe: Recipe,
    seed: int,
    pad_id: int,
    console: Console | None = None,
    keeper: Keeper | None = None,
) -> TuningSummary:
    """Train the adapter of `model` (see `add_adapter`) in place.

    `recipe.max_subtokens` is the length of a row, `recipe.batch_size` counts rows. A loss that is
    not finite ends the training. With a `keeper` it goes on from the checkpoint that is there:
    order and dropout follow from seed and step, so it ends as if it had not been interrupted.

    Raises:
        ValueError: when the checkpoint is damaged, or of another run.
    """
    order = random.Random(f"{seed}/order")
    shuffled = list(texts)
    order.shuffle(shuffled)
    rows = PACKINGS[system.packing()](shuffled, recipe.max_subtokens)
    if console:
        console.print(memory_line(model, rows, recipe))
    per_step = recipe.batch_size * recipe.accumulation
    num_steps = recipe.max_steps or -(-len(rows) // per_step) * recipe.epochs
    schedule = system.schedule_length(len(texts), recipe, num_steps)
    rates = replace(recipe, cosine_steps_factor=1.0)
    named = {name: one for name, one in model.named_parameters() if one.requires_grad}
    optimizer = build_optimizer(list(named.values()), recipe)
    losses, seconds = _resumed(keeper, named, optimizer, console)
    model.train()
    seen: list[Row] = []
    started = time.monotonic() - seconds
    last_line = last_kept = time.monotonic()
    for step, step_rows in enumerate(_steps(rows, per_step, num_steps, order)):
        seen += step_rows
        if step < len(losses):
            continue
        torch.manual_seed(zlib.crc32(f"{seed}/{step}".encode()))
        loss = _backward(model, _chunks(step_rows, recipe.batch_size), pad_id)
        losses.append(loss)
        if not math.isfinite(loss):
            return _summary(losses, started, len(rows), seen, texts, diverged=True)
        nn.utils.clip_grad_norm_(named.values(), recipe.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(rates, step, schedule)
        optimizer.step()
        optimizer.zero_grad()
        now = time.monotonic()
        if keeper and now - last_kept >= keeper.seconds_between:
            last_kept = now
            progress = Progress(
                keeper.run_id, steps=len(losses), train_loss=losses, seconds=now - started
            )
            write_checkpoint(keeper.folder, progress, saved_tensors(named, optimizer))
        if console and now - last_line > SECONDS_BETWEEN_LINES:
            last_line = now
            console.print(f"step {len(losses)}/{num_steps}, loss {loss:.4f}")
    model.eval()
    return _summary(losses, started, len(rows), seen, texts)


def _resumed(
    keeper: Keeper | None,
    named: dict[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    console: Console | None,
) -> tuple[list[float], float]:
    """Losses and seconds of what was done before; none without a checkpoint."""
    found = read_checkpoint(keeper.folder, keeper.run_id) if keeper else None
    if found is None:
        return [], 0.0
    progress, tensors = found
    load_tensors(named, optimizer, tensors)
    if console:
        console.print(f"going on after step {progress.steps}")
    return list(progress.train_loss), progress.seconds


def _steps(
    rows: list[Row], per_step: int, num_steps: int, order: random.Random
) -> Iterator[list[Row]]:
    """The rows of each optimizer step; every epoch in an order of its own."""
    done = 0
    while done < num_steps:
        order.shuffle(rows)
        for step_rows in _chunks(rows, per_step)[: num_steps - done]:
            done += 1
            yield step_rows


def save_tuned(model: Any, folder: Path, summary: TuningSummary) -> None:
    """The adapter in PEFT's format; the summary last, as the sign that all is there."""
    # Embeddings are never trained; "auto" looks for a config.json that GGUF weights do not have.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / SUMMARY_FILE).write_text(json.dumps(asdict(summary)), encoding="utf-8")
    delete_checkpoint(folder)


def load_tuned(loaded: LoadedBackbone, folder: Path) -> Any:
    """The backbone with a saved adapter, ready to generate.

    Raises:
        FileNotFoundError: when the folder holds no finished adapter.
    """
    from peft import PeftModel

    read_summary(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(loaded.model, str(folder)).eval()


def read_summary(folder: Path) -> TuningSummary:
    """What `save_tuned` wrote.

    Raises:
        FileNotFoundError: when the folder holds no finished adapter.
    """
    path = folder / SUMMARY_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no finished adapter: run `unmask instruct train`")
    return TuningSummary(**json.loads(path.read_text(encoding="utf-8")))


def _backward(model: Any, micro_batches: Sequence[Sequence[Row]], pad_id: int) -> float:
    """Mean loss over micro-batches, with its gradient left on the parameters."""
    total = 0.0
    for rows in micro_batches:
        batch = batch_rows(rows, pad_id)
        inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
        if not (inputs["labels"][:, 1:] != IGNORED).any():
            continue
        loss = model(**inputs, use_cache=False).loss / len(micro_batches)
        loss.backward()
        total += loss.item()
    return total


def _summary(
    losses: list[float],
    started: float,
    num_rows: int,
    seen: Sequence[Row],
    texts: Sequence[EncodedQuery],
    diverged: bool = False,
) -> TuningSummary:
    return TuningSummary(
        losses,
        time.monotonic() - started,
        sum(len(row.token_ids) for row in seen),
        sum(label != IGNORED for row in seen for label in row.label_ids),
        num_rows,
        sum(text.num_lost_words for text in texts),
        sum(text.num_lost_answers for text in texts),
        diverged,
    )


def _chunks(items: Sequence[Any], size: int) -> list[Any]:
    return [items[start : start + size] for start in range(0, len(items), size)]
