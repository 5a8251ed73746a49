"""Run: what is trained. RunResult: what came of it.

A Run's id is the hash of its fields, so a setting that matters and is not a field here would
make two different runs look the same: add a field, never a global.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from unmask.recipe import Recipe

ENCODER = "encoder"
"""The `config` of a baseline run: an encoder, which has no causal mask to drop."""


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    `config` is an unmasking code such as "0110", or "encoder" for an encoder baseline.
    `data_fingerprint` is `Corpus.fingerprint()` after every limit and hold-out was applied.
    """

    backbone: str
    task: str
    config: str
    seed: int
    recipe: Recipe
    data_fingerprint: str

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits: SHA-256 of the fields as canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """What a person calls this run, for progress bars and tables."""
        return f"{self.backbone}/{self.task}/{self.config}/seed{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**values, "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Run:
        """The inverse of `to_dict`."""
        return cls(**{**values, "recipe": Recipe.from_dict(values["recipe"])})


@dataclass(frozen=True)
class RunResult:
    """Scores and costs of a finished run.

    `scores` maps a split ("validation", and "test" once scored) to the dict that
    `unmask.analysis.scoring.score` returns. `curves` maps a name to a list of numbers
    ("train_loss" has one per optimizer step). `timings` are seconds and counts
    ("train_seconds", "tokens_per_second", "peak_memory_bytes"). `environment` names versions,
    hardware and the git commit. `status` is "finished" or "diverged".
    """

    run: Run
    scores: dict[str, dict[str, Any]]
    curves: dict[str, list[float]] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    status: str = "finished"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "run": self.run.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunResult:
        """The inverse of `to_dict`."""
        return cls(**{**values, "run": Run.from_dict(values["run"])})
