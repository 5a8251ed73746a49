"""Three labelers from every checkpoint, with every seed; finished ones are in the ledger.

All parameters are trained, so runs share no backbone and seeds run one after another. A kill costs
the one run under way. The one thing that is easy to get wrong: the checkpoint is part of a run's
identity, so it stands in the name of its backbone: `decoder-9f3a01c2@07`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from unmask.analysis.scoring import score
from unmask.config import UnmaskConfig
from unmask.data.alignment import EncodedSentence
from unmask.data.sentence import Corpus
from unmask.recipe import Recipe
from unmask.results.ledger import Ledger
from unmask.results.run import ENCODER, Run, RunResult
from unmask.scale.labeler import FullLabeler, load_checkpoint
from unmask.scale.pretrain import autocast
from unmask.tagging import predict_tags
from unmask.training.batches import Schedule, encode_split
from unmask.training.environment import describe_environment, peak_memory_bytes
from unmask.training.optimizer import build_optimizer, learning_rate

VARIANTS = ("encoder", "decoder with mask", "decoder without mask")
_NAME = re.compile(r"(encoder|decoder)-([0-9a-f]{8})@(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """Weights on the way of one pre-training."""

    kind: str
    pretraining_id: str
    number: int
    folder: Path

    @property
    def name(self) -> str:
        """What its runs are filed under.

        >>> Checkpoint("decoder", "9f3a01c2", 7, Path()).name
        'decoder-9f3a01c2@07'
        """
        return f"{self.kind}-{self.pretraining_id}@{self.number:02d}"


def parse_name(backbone: str) -> tuple[str, str, int] | None:
    """(kind, pre-training, number) of a checkpoint's name; None for other backbones.

    >>> parse_name("decoder-9f3a01c2@07"), parse_name("tiny")
    (('decoder', '9f3a01c2', 7), None)
    """
    found = _NAME.fullmatch(backbone)
    return None if found is None else (found[1], found[2], int(found[3]))


def variant_of(run: Run) -> str | None:
    """Which of `VARIANTS` a run is; None for runs of other studies."""
    parsed = parse_name(run.backbone)
    if parsed is None:
        return None
    if parsed[0] == "encoder":
        return VARIANTS[0]
    return VARIANTS[2] if "1" in run.config else VARIANTS[1]


def codes(kind: str, num_layers: int) -> tuple[str, ...]:
    """The configurations that are fine-tuned from a checkpoint of this kind."""
    return (ENCODER,) if kind == "encoder" else ("0" * num_layers, "1" * num_layers)


def planned(
    checkpoints: Sequence[Checkpoint],
    num_layers: int,
    task: str,
    seeds: Sequence[int],
    recipe: Recipe,
    data_fingerprint: str,
) -> Iterator[tuple[Checkpoint, Run]]:
    """Every fine-tuning of a study, checkpoint by checkpoint."""
    for checkpoint in checkpoints:
        for code in codes(checkpoint.kind, num_layers):
            for seed in seeds:
                yield (
                    checkpoint,
                    Run(checkpoint.name, task, code, seed, recipe, data_fingerprint),
                )


def finetune(checkpoint: Checkpoint, run: Run, corpus: Corpus, device: str) -> RunResult:
    """Train one labeler to its end and score it on validation.

    Raises:
        RuntimeError: when a layer does not see what the run's configuration says.
    """
    loaded = load_checkpoint(checkpoint.folder, checkpoint.name, device)
    num_layers = loaded.model.config.num_hidden_layers
    code = "1" * num_layers if run.config == ENCODER else run.config
    config = UnmaskConfig.from_code(code, num_layers)
    environment = describe_environment(loaded)
    model = FullLabeler(loaded, corpus.labels, config, run.seed, run.recipe.head_dropout)
    model.verify_mask().check()
    limit = run.recipe.max_subtokens
    train = encode_split(corpus.train, model.encoder, model.tags, limit)
    started = time.monotonic()
    losses, num_tokens = fit(model, train, run.recipe, run.seed)
    seconds = time.monotonic() - started
    with autocast(loaded.model.device, run.recipe.compute_dtype):
        ((tags, num_cut),) = predict_tags(model, [corpus.validation], limit)
    gold = [sentence.tags for sentence in corpus.validation]
    finite = all(map(torch.isfinite, map(torch.tensor, losses)))
    return RunResult(
        run=run,
        scores={"validation": score(gold, tags, num_truncated_words=num_cut)},
        curves={"train_loss": losses},
        timings={
            "train_seconds": seconds,
            "train_tokens": num_tokens,
            "tokens_per_second": num_tokens / max(seconds, 1e-9),
            "peak_memory_bytes": peak_memory_bytes(loaded.model.device),
        },
        environment={**environment, "mask_proof": "every layer agreed"},
        status="finished" if finite else "diverged",
    )


def fit(
    model: FullLabeler, sentences: Sequence[EncodedSentence], recipe: Recipe, seed: int
) -> tuple[list[float], int]:
    """Train all parameters; the losses of all steps, and how many tokens were read."""
    schedule = Schedule.of(recipe, len(sentences))
    optimizer = build_optimizer(list(model.parameters()), recipe)
    losses: list[float] = []
    num_tokens = microbatch = 0
    model.train()
    torch.manual_seed(seed)
    for step in range(schedule.num_steps):
        window = schedule.window_size(microbatch)
        total = 0.0
        for _ in range(window):
            chosen = [sentences[index] for index in schedule.indices(microbatch, seed)]
            batch = model.batch(chosen)
            with autocast(batch.token_ids.device, recipe.compute_dtype):
                loss = model.loss(batch) / window
            loss.backward()
            total += loss.item()
            num_tokens += batch.num_tokens
            microbatch += 1
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step, schedule.num_steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    model.eval()
    return losses, num_tokens


def missing(ledger: Ledger, plan: Sequence[tuple[Checkpoint, Run]]) -> list[tuple[Checkpoint, Run]]:
    """What the ledger lacks, in order."""
    finished = ledger.finished_ids()
    return [(checkpoint, run) for checkpoint, run in plan if run.id not in finished]
