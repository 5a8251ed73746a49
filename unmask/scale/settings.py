"""How the pair is pre-trained and fine-tuned: shapes, constants, presets.

The `paper` values are those of Dukić and Šnajder (ACL Findings 2024), section 5.4 and appendix
A.2. The one thing that is easy to get wrong: recipes of this room name no `lora_targets`, which
stands for "no adapters, all parameters are trained".
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unmask.recipe import PAPER, Recipe

KINDS = ("encoder", "decoder")
DECODER_SHAPES = ("roberta", "llama")

PRETRAINING_RECIPE = replace(
    PAPER,
    preset="pretraining",
    lora_targets=(),
    batch_size=64,
    accumulation=8,
    epochs=10,
    max_subtokens=512,
    optimizer="adamw",
    quantization=None,
    gradient_checkpointing=False,
)
"""`batch_size` counts chunks of `max_subtokens` tokens."""

FINETUNING_RECIPE = replace(
    PAPER,
    preset="full",
    lora_targets=(),
    accumulation=1,
    optimizer="adamw",
    quantization=None,
    gradient_checkpointing=False,
)
"""The paper gives no learning rate of this step; the only one it names stands here."""


@dataclass(frozen=True)
class Pretraining:
    """One language model from nothing, except its text.

    Raises:
        ValueError: naming the flag whose value cannot be.
    """

    num_layers: int = 4
    hidden_size: int = 768
    num_heads: int = 12
    intermediate_size: int = 3072
    """Of a RoBERTa block; a Llama block, which has three such matrices, gets two thirds."""
    vocab_size: int = 50_265
    """Of a tokenizer to be trained; one that is given keeps its own."""
    decoder_shape: str = "roberta"
    """`roberta` (the encoder's own blocks with a causal mask, as published) or `llama`."""
    dropout: float = 0.1
    """RoBERTa-base's, on hidden states and attention weights; Llama blocks have only the latter."""
    mlm_probability: float = 0.15
    checkpoints_per_epoch: int = 5
    seed: int = 120
    recipe: Recipe = field(default=PRETRAINING_RECIPE)

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{_flag(name)} must be at least 1, got {getattr(self, name)}")
        if self.hidden_size % (2 * self.num_heads):
            raise ValueError(
                f"--hidden-size {self.hidden_size} does not make {self.num_heads} heads of an even "
                "size; change it or --num-heads"
            )
        if self.decoder_shape not in DECODER_SHAPES:
            raise ValueError(
                f"--decoder-shape must be one of {', '.join(DECODER_SHAPES)}, "
                f"got {self.decoder_shape!r}"
            )
        if self.checkpoints_per_epoch < 1:
            raise ValueError(
                f"--checkpoints-per-epoch must be at least 1, got {self.checkpoints_per_epoch}"
            )
        if not 0 < self.mlm_probability < 1:
            raise ValueError(f"mlm_probability must be in (0, 1), got {self.mlm_probability}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**asdict(self), "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Pretraining:
        """The inverse of `to_dict`."""
        return cls(**{**values, "recipe": Recipe.from_dict(values["recipe"])})

    def id(self, kind: str, text_fingerprint: str) -> str:
        """Eight hex digits that tell one pre-training from every other.

        The decoder's shape is no part of an encoder's identity.
        """
        values = self.to_dict()
        if kind == "encoder":
            del values["decoder_shape"]
        text = json.dumps([kind, text_fingerprint, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


SMALL = Pretraining(
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    intermediate_size=128,
    vocab_size=1024,
    checkpoints_per_epoch=1,
    recipe=replace(
        PRETRAINING_RECIPE,
        preset="pretraining-small",
        batch_size=16,
        accumulation=1,
        epochs=4,
        max_subtokens=64,
        learning_rate=4e-3,
        compute_dtype="float32",
    ),
)
"""Minutes on a CPU; small matrices want larger rates."""

SMALL_FINETUNING = replace(
    FINETUNING_RECIPE,
    preset="full-small",
    learning_rate=1e-3,
    epochs=8,
    max_subtokens=64,
    compute_dtype="float32",
)

PRETRAINING_PRESETS = {"paper": Pretraining(), "small": SMALL}
FINETUNING_PRESETS = {"paper": FINETUNING_RECIPE, "small": SMALL_FINETUNING}


def _flag(name: str) -> str:
    return name.replace("_", "-")
