"""Which runs a sweep consists of, and which of them share a forward pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.config import UnmaskConfig, gray_codes
from unmask.recipe import PAPER, Recipe
from unmask.results.run import ENCODER, Run
from unmask.sweep.strategy import Strategy

PAPER_SEEDS = (120, 121, 122, 123, 124)
PAPER_GROUPS = 4

TEST_SCOPES = ("chosen", "all", "none")


@dataclass(frozen=True)
class SearchSettings:
    """A search over configurations in place of a list of them; see `unmask.sweep.search`.

    Raises:
        ValueError: naming the flag whose value cannot be.
    """

    num_trials: int = 40
    """Configurations to try, those of an earlier call included."""
    num_groups: int | None = None
    """Bits of a configuration; None means one a layer."""
    first: tuple[str, ...] = ()
    """Codes to try right after all causal and all open."""
    sampler: str = "auto"
    storage: str | None = None
    """A URL that Optuna knows, or the path of a journal file; None: beside the ledger."""
    at_a_time: int = 4
    """Configurations that are asked for together, and trained in one stack where they fit."""
    seed: int = 0
    """Of the proposals; a call that goes on draws others than the first did."""
    over: tuple[str, ...] = ()
    """Fields of the recipe to search too, as `unmask.sweep.space.parse_dimension` reads them."""
    prune: bool = False
    """End trials early that do badly at the rungs of `unmask.sweep.halving`."""

    def __post_init__(self) -> None:
        for flag, value in (
            ("--trials", self.num_trials),
            ("--groups", 1 if self.num_groups is None else self.num_groups),
            ("--at-a-time", self.at_a_time),
        ):
            if value < 1:
                raise ValueError(f"{flag} must be at least 1, got {value}")
        fields = [text.partition("=")[0] for text in self.over]
        if len(set(fields)) < len(fields):
            raise ValueError(f"--search-over names a field twice: {' '.join(self.over)}")


CHECKPOINT_SECONDS = 60.0
"""A killed sweep loses about this much work of one stack; see `unmask.training.fit`."""


@dataclass(frozen=True)
class SweepSettings:
    """What the user asked for; every field is a flag of `python -m unmask.sweep`.

    Raises:
        ValueError: naming the flag whose value cannot be.
    """

    model: str = "tiny"
    task: str = "lookright"
    recipe: Recipe = PAPER
    configs: tuple[str, ...] = gray_codes(PAPER_GROUPS)
    seeds: tuple[int, ...] = PAPER_SEEDS
    baselines: tuple[str, ...] = ()
    """Encoders trained by the same recipe, by backbone name."""
    data_dir: Path | None = None
    train_from: str | None = None
    validation_from: str | None = None
    column: str | None = None
    repair: bool = False
    """Make entities of stray tags."""
    limit_train: int | None = None
    limit_validation: int | None = None
    out: Path = field(default_factory=lambda: Path("results"))
    fuse: int | None = None
    """Runs per forward pass; None means as many as the memory holds."""
    test: str = "chosen"
    """Whose test split is scored: `chosen` (the configuration chosen on validation, 0000, 1111
    and the encoders), `all` (the published analysis, which needs every configuration) or `none`."""
    halving: bool = False
    """Successive halving: weak configurations leave at rungs, see `unmask.sweep.halving`."""
    search: SearchSettings | None = None
    """Search the configurations instead of training those of `configs`."""
    workers: int = 1
    """How many share the runs, see `unmask.sweep.workers`."""
    workers_per_device: int = 1
    """How many of them share the memory of a GPU or, on CPUs, of a machine."""
    strategy: Strategy | None = None
    """How several devices train every run together."""
    epoch_scores: bool = False
    """Score validation after every epoch, and say so; a recipe with patience does it anyway."""
    device: str | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    """Time between checkpoints; 0 writes one after every step."""
    track: tuple[str, ...] = ()
    """Where learning curves go besides CSV files, see `unmask.training.trackers`."""

    def __post_init__(self) -> None:
        for name in ("configs", "seeds", "baselines"):
            values = getattr(self, name)
            if not values and name != "baselines":
                raise ValueError(f"--{name} is empty: name at least one")
            doubled = sorted({str(value) for value in values if values.count(value) > 1})
            if doubled:
                raise ValueError(f"--{name} names {', '.join(doubled)} more than once")
        if min(self.seeds) < 0:
            raise ValueError(f"--seeds must not be negative, got {min(self.seeds)}")
        if self.search is not None and self.halving:
            raise ValueError("--search and --halving are two ways to save; leave one out")
        if self.model in self.baselines:
            raise ValueError(f"{self.model} is the decoder to sweep; leave it out of --baselines")
        if self.fuse is not None and self.fuse < 1:
            raise ValueError(f"--fuse must be at least 1 or auto, got {self.fuse}")
        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1, got {self.workers}")
        if self.strategy is not None and self.workers > 1:
            raise ValueError(
                "--strategy has all processes train each run together, --workers has each train "
                "runs of its own; leave one out"
            )
        if self.strategy is not None and self.device not in (None, "cpu", "cuda"):
            raise ValueError(
                f"--strategy gives every process a device of its own; --device {self.device} names "
                "one for all: say cpu or cuda, or leave it out"
            )
        if self.test not in TEST_SCOPES:
            raise ValueError(f"--test must be one of {', '.join(TEST_SCOPES)}, got {self.test!r}")
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise ValueError(
                f"--checkpoint-seconds must be 0 or more, got {self.checkpoint_seconds}"
            )

    def data(self) -> dict[str, Any]:
        """The arguments of `load_task`, as plain JSON values."""
        return {
            "name": self.task,
            "data_dir": str(self.data_dir.resolve()) if self.data_dir else None,
            "train_from": self.train_from,
            "validation_from": self.validation_from,
            "limit_train": self.limit_train,
            "limit_validation": self.limit_validation,
            "column": self.column,
            "repair": self.repair,
        }


def decoder_runs(
    settings: SweepSettings, backbone: str, num_layers: int, data_fingerprint: str
) -> list[Run]:
    """Every configuration with every seed, seed by seed: runs of one seed share their batches.

    Raises:
        ValueError: for a configuration that does not fit the backbone's layers, and for two that
            open the same ones.
    """
    written: dict[tuple[bool, ...], str] = {}
    for code in settings.configs:
        flags = UnmaskConfig.parse(code, num_layers).bidirectional
        if flags in written:
            raise ValueError(
                f"--configs: {written[flags]} and {code} open the same layers of {backbone}; "
                "leave one out"
            )
        written[flags] = code
    return [
        Run(backbone, settings.task, code, seed, settings.recipe, data_fingerprint)
        for seed in settings.seeds
        for code in settings.configs
    ]


def encoder_runs(settings: SweepSettings, backbone: str, data_fingerprint: str) -> list[Run]:
    """The baseline with every seed, by the same recipe."""
    return [
        Run(backbone, settings.task, ENCODER, seed, settings.recipe, data_fingerprint)
        for seed in settings.seeds
    ]


def shared_in_a_stack(recipe: Recipe) -> tuple[Any, ...]:
    """What runs must have in common to share a forward pass; all else may differ."""
    return (
        recipe.compute_dtype,
        recipe.quantization,
        recipe.gradient_checkpointing,
        recipe.lora_targets,
        recipe.lora_dropout,
        recipe.head_dropout,
        recipe.max_subtokens,
    )


def stacks(runs: Sequence[Run], width: int) -> Iterable[list[Run]]:
    """Cut runs of one backbone into stacks of at most `width` that share a forward pass.

    Runs of different seeds meet in a stack only when a seed's runs do not fill it.
    """
    for start in range(0, len(runs), width):
        yield list(runs[start : start + width])
