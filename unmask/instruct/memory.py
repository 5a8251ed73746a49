"""What tuning will take, said before it starts: who runs out of memory is killed without a word.

Stock modules keep more for backward than ours do: about 9 MB a token at Mistral-7B's shape, where
ours keep 3.3. The logits of a large vocabulary, in float32 with their gradient, are the rest.
Measured on a CPU: 1.8 GiB of resident memory above the backbone for 4 rows of up to 255 sub-tokens
of SmolLM2-135M in bfloat16, for which this says 1.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unmask.instruct.packing import Row
from unmask.recipe import Recipe
from unmask.training.estimate import bytes_in_words, free_memory

STOCK_FACTOR = 2.7
"""What a block of stock modules keeps, against 5 tensors of the hidden size and 3 of the MLP's."""
BYTES_A_LOGIT = 12
"""The product, its float32 copy and the gradient."""


def bytes_per_token(config: Any, recipe: Recipe) -> float:
    """That a forward pass of stock modules with adapters keeps for backward.

    Args:
        config: of the backbone, from transformers.
        recipe: dtype and checkpointing count.
    """
    item = getattr(torch, recipe.compute_dtype).itemsize
    hidden, layers = config.hidden_size, config.num_hidden_layers
    block = (
        item * STOCK_FACTOR * (5 * hidden + 3 * getattr(config, "intermediate_size", 4 * hidden))
    )
    blocks = layers * hidden * item + block if recipe.gradient_checkpointing else layers * block
    return blocks + BYTES_A_LOGIT * config.vocab_size


def memory_line(model: Any, rows: Sequence[Row], recipe: Recipe) -> str:
    """What the largest micro-batch of a training will take, and advice where that is too much."""
    longest = max(len(row.token_ids) for row in rows)
    count = min(recipe.batch_size, len(rows))
    needed = bytes_per_token(model.config, recipe) * longest * count
    free = free_memory(model.device)
    line = (
        f"micro-batches of {count} rows of up to {longest} sub-tokens: about "
        f"{bytes_in_words(needed)}, an estimate; {bytes_in_words(free)} are free"
    )
    if needed > free and count > 1:
        fewer = max(1, int(count * free / needed))
        accumulation = -(-recipe.batch_size * recipe.accumulation // fewer)
        line += (
            f"\nnote: that is too much; --batch-size {fewer} --accumulation {accumulation} makes "
            "steps of as many rows, a few at a time"
        )
    return line
