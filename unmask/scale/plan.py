"""The three variants, and which labelers are fine-tuned from which checkpoint.

The one thing that is easy to get wrong: the checkpoint is part of a run's identity, so it stands
in the name of its backbone: `decoder-9f3a01c2@07`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.recipe import Recipe
from unmask.results.ledger import Ledger
from unmask.results.run import ENCODER, Run

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


def missing(ledger: Ledger, plan: Sequence[tuple[Checkpoint, Run]]) -> list[tuple[Checkpoint, Run]]:
    """What the ledger lacks, in order."""
    finished = ledger.finished_ids()
    return [(checkpoint, run) for checkpoint, run in plan if run.id not in finished]
