"""Every constant of training in one frozen record, with the presets.

The `paper` values are those of Dukić and Šnajder (ACL Findings 2024), section 4.2 and appendix
A.1. The one thing that is easy to get wrong: `accumulation` micro-batches make one step, and
the loss of a micro-batch is the mean over its own labelled words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How one run is trained. Two recipes that differ in any field are different runs."""

    preset: str = "paper"
    lora_rank: int = 64
    lora_alpha: int = 16
    lora_dropout: float = 0.1
    """Dropout on the input of every LoRA branch; q and v draw their own masks, as in PEFT."""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the projections that get an adapter; for encoders see `backbones`."""
    head_dropout: float = 0.1
    learning_rate: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-5
    weight_decay: float = 0.1
    optimizer: str = "paged_adamw_8bit"
    """`paged_adamw_8bit` (bitsandbytes) or `adamw` (PyTorch, full precision)."""
    max_grad_norm: float = 1.0
    batch_size: int = 16
    """Sentences per micro-batch."""
    accumulation: int = 4
    """Micro-batches per optimizer step."""
    keep_last_microbatch_only: bool = False
    """Keep only the gradient of a step's last micro-batch, as the released code does."""
    epochs: int = 5
    max_steps: int | None = None
    """Stop after this many optimizer steps even if epochs remain; the schedule ends there too."""
    patience: int | None = None
    """Stop after this many epochs without a better validation F1, and keep the best weights; None
    trains to the end and keeps the last."""
    cosine_steps_factor: float = 1.0
    """The cosine reaches zero after this many times the run's steps (released code: 4)."""
    max_subtokens: int = 128
    """Sentences are cut after this many sub-tokens; cut words are counted and scored as O."""
    quantization: str | None = "nf4"
    """`nf4` (4-bit NormalFloat with double quantisation) or None."""
    compute_dtype: str = "bfloat16"
    gradient_checkpointing: bool = True

    def __post_init__(self) -> None:
        self._check_types()
        for name in COUNTS:
            value = getattr(self, name)
            if name in OPTIONAL_COUNTS and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"recipe: {name} must be a whole number from 1, got {value!r}")
        for name in ("learning_rate", "epsilon", "max_grad_norm", "cosine_steps_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"recipe: {name} must be a finite number above 0, got {getattr(self, name)}"
                )
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"recipe: weight_decay must not be negative, got {self.weight_decay}")
        for name in ("lora_dropout", "head_dropout", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"recipe: {name} must be in [0, 1), got {getattr(self, name)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"recipe: unknown optimizer {self.optimizer!r}; choose one of {OPTIMIZERS}"
            )
        if self.quantization not in (None, "nf4"):
            raise ValueError(
                f"recipe: quantization must be 'nf4' or None, got {self.quantization!r}"
            )
        if self.compute_dtype not in COMPUTE_DTYPES:
            raise ValueError(
                f"recipe: compute_dtype must be one of {COMPUTE_DTYPES}, got {self.compute_dtype!r}"
            )

    def _check_types(self) -> None:
        """Values may come from a file, where anything can stand."""
        for name in NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"recipe: {name} must be a number, got {value!r:.100}")
        for name in SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(
                    f"recipe: {name} must be true or false, got {getattr(self, name)!r:.100}"
                )
        targets = self.lora_targets
        if not isinstance(targets, tuple) or not all(isinstance(one, str) for one in targets):
            raise ValueError(f"recipe: lora_targets must be a list of names, got {targets!r:.100}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, one per field."""
        values = asdict(self)
        values["lora_targets"] = list(self.lora_targets)
        if self.patience is None:
            del values["patience"]  # younger than ledgers and their ids, which are hashes of this
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`; unknown keys are an error, never ignored."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"recipe: unknown fields {unknown}; known are {sorted(known)}")
        targets = values.get("lora_targets", cls.lora_targets)
        return cls(
            **{**values, "lora_targets": tuple(targets) if isinstance(targets, list) else targets}
        )


def told_apart(recipes: Sequence[Recipe]) -> list[str]:
    """What tells each of several recipes from the others: its preset if that does, else fields.

    >>> told_apart([PRESETS["paper"], PRESETS["quick"]])
    ['recipe paper', 'recipe quick']
    >>> told_apart([replace(PAPER, lora_rank=8), PAPER])
    ['lora rank 8', 'lora rank 64']
    """
    if len({recipe.preset for recipe in recipes}) == len(recipes):
        return [f"recipe {recipe.preset}" for recipe in recipes]
    names = [one.name for one in fields(Recipe)]
    differing = [name for name in names if len({getattr(r, name) for r in recipes}) > 1]
    return [
        ", ".join(f"{name.replace('_', ' ')} {getattr(r, name)}" for name in differing)
        for r in recipes
    ]


COUNTS = (
    "lora_rank",
    "lora_alpha",
    "batch_size",
    "accumulation",
    "epochs",
    "max_steps",
    "patience",
    "max_subtokens",
)
NUMBERS = (
    "lora_dropout",
    "head_dropout",
    "learning_rate",
    "beta1",
    "beta2",
    "epsilon",
    "weight_decay",
    "max_grad_norm",
    "cosine_steps_factor",
)
SWITCHES = ("keep_last_microbatch_only", "gradient_checkpointing")
OPTIONAL_COUNTS = ("max_steps", "patience")
OPTIMIZERS = ("paged_adamw_8bit", "adamw")
COMPUTE_DTYPES = ("bfloat16", "float16", "float32", "float64")

PAPER = Recipe()

PRESETS: dict[str, Recipe] = {
    "paper": PAPER,
    # The released code zeroes gradients at every micro-batch, so the last of each four counts,
    # still divided by four; and its schedule, sized for more steps than are taken, ends at 0.854
    # of the learning rate: cos(pi * x) = 2 * 0.854 - 1 at x = 1 / 4.0.
    "as_released": replace(
        PAPER, preset="as_released", keep_last_microbatch_only=True, cosine_steps_factor=4.0
    ),
    # Few steps need a larger rate: alpha / rank = 0.25 makes small updates.
    "quick": replace(
        PAPER,
        preset="quick",
        learning_rate=2e-3,
        accumulation=1,
        optimizer="adamw",
        quantization=None,
        compute_dtype="float32",
        gradient_checkpointing=False,
    ),
    # For the embedded backbone on the embedded corpus: small matrices want a larger rate still.
    "tiny": replace(
        PAPER,
        preset="tiny",
        learning_rate=1e-2,
        lora_rank=16,
        epochs=2,
        accumulation=1,
        optimizer="adamw",
        quantization=None,
        compute_dtype="float32",
        gradient_checkpointing=False,
    ),
}


def load_recipe(preset: str, **overrides: Any) -> Recipe:
    """The named preset with the given fields replaced; None means "leave as it is".

    Raises:
        ValueError: for an unknown preset or a value out of range.
    """
    if preset not in PRESETS:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(PRESETS)}")
    changed = {name: value for name, value in overrides.items() if value is not None}
    return replace(PRESETS[preset], **changed)
