"""What a sweep will cost, before it starts: tokens, arithmetic, memory, and how many to fuse.

Estimates, and called so wherever they are printed. Memory counts what a block keeps for backward
when all its weights are frozen (5 hidden-sized tensors, keys and values, 3 MLP-sized ones, the
weights of attention) at the tokens of the largest batch that is to be expected; where all weights
are trained, also what norms and dropout keep (12, and 2 MLP-sized ones). On a CPU it is held
against resident memory, which allocators fragment: 2 % high for sixteen runs of SmolLM2-135M in
float32 (benchmarks/results), but a quarter low for four in bfloat16 and two in float32, and a third
low for one. `WORKING_BYTES` is what the embedded backbone took beside its runs: 31, 45 and 12 MiB
for 1, 4 and 16 of them. `SHARE_OF_MEMORY` leaves room for all that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unmask.backbones import LoadedBackbone
from unmask.data.alignment import EncodedSentence
from unmask.kernels.attention_layout import SMALLEST_BIN
from unmask.recipe import Recipe
from unmask.training.batches import Schedule

MAX_FUSED = 16
"""Beyond this many runs a launch is full already; more only costs memory."""

SHARE_OF_MEMORY = 0.6
"""Of the free memory; the rest is for what the estimate does not see."""

WORKING_BYTES = 32 * 2**20
"""What PyTorch sets up for its threads and products, however small the model and many the runs."""

LABELS_ASSUMED = 32

SPREAD = 3.0
"""Standard deviations that the largest of some hundred batches lies above the mean one."""

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cost:
    """Estimates for one backbone."""

    backbone_bytes: int
    """In memory already once the backbone is loaded."""
    bytes_per_run: int
    """Adapters, gradients, optimizer state and activations of one run's micro-batch."""
    tokens_per_run: int
    flops_per_token: int

    @property
    def flops_per_run(self) -> int:
        """Floating-point operations of training one run."""
        return self.tokens_per_run * self.flops_per_token

    def bytes_of_runs(self, num_runs: int) -> int:
        """What training so many runs at a time takes beside the backbone."""
        return WORKING_BYTES + num_runs * self.bytes_per_run

    def width(self, free_bytes: int, num_runs: int) -> int:
        """How many runs to fuse into what is free beside the backbone; at least 1."""
        room = int(SHARE_OF_MEMORY * free_bytes) - WORKING_BYTES
        return max(1, min(room // self.bytes_per_run, MAX_FUSED, num_runs))


def estimate(loaded: LoadedBackbone, recipe: Recipe, train: Sequence[EncodedSentence]) -> Cost:
    """Cost of one run of `recipe` on the training split `train`.

    A recipe without `lora_targets` trains all parameters.
    """
    linear = sum(
        module.in_features * module.out_features
        for module in loaded.model.modules()
        if isinstance(module, nn.Linear)  # bitsandbytes' 4-bit layer is one too
    )
    state = 2 if recipe.optimizer == "paged_adamw_8bit" else 8
    head = LABELS_ASSUMED * loaded.model.config.hidden_size
    if recipe.lora_targets:
        trained = _adapter(loaded, recipe) + head
        bytes_of_weights = trained * (8 + state)
        flops_per_token = 4 * linear + 6 * trained
    else:
        trained = sum(p.numel() for p in loaded.model.parameters()) + head
        item = getattr(torch, recipe.compute_dtype).itemsize
        # Products keep weights in their dtype; a recorded pass has gradients of its own.
        narrowed = item if item < 4 else 0
        recorded = 4 if loaded.model.device.type == "cuda" else 0
        bytes_of_weights = trained * (8 + state + narrowed + recorded)
        flops_per_token = 6 * (linear + head)
    lengths = np.array([len(sentence.token_ids) for sentence in train])
    tokens_per_sentence = float(lengths.mean())
    schedule = Schedule.of(recipe, len(train))
    batch_size = min(recipe.batch_size, len(train))
    activations = _kept_per_token(loaded, recipe, lengths) * _largest_batch(lengths, batch_size)
    return Cost(
        backbone_bytes=sum(p.numel() * p.element_size() for p in loaded.model.parameters()),
        bytes_per_run=int(bytes_of_weights + activations),
        tokens_per_run=int(tokens_per_sentence * schedule.num_microbatches * batch_size),
        flops_per_token=flops_per_token,
    )


def _adapter(loaded: LoadedBackbone, recipe: Recipe) -> int:
    """Weights of the adapters of one run."""
    config = loaded.model.config
    widths = 3 * config.hidden_size + _key_value(loaded)
    return recipe.lora_rank * config.num_hidden_layers * widths


def _key_value(loaded: LoadedBackbone) -> int:
    """Features of keys, and of values."""
    config = loaded.model.config
    heads = config.num_attention_heads
    return config.hidden_size * getattr(config, "num_key_value_heads", heads) // heads


def _kept_per_token(loaded: LoadedBackbone, recipe: Recipe, lengths: np.ndarray) -> float:
    """Bytes that backward needs of a token, in all layers."""
    config, key_value = loaded.model.config, _key_value(loaded)
    hidden, layers = config.hidden_size, config.num_hidden_layers
    item = getattr(torch, recipe.compute_dtype).itemsize
    kept = 5 * hidden + 2 * key_value + 3 * config.intermediate_size + 4 * recipe.lora_rank
    if not recipe.lora_targets:
        # Norms and the stream between layers stay in the dtype of the weights.
        item = max(item, 4)
        kept = 12 * hidden + 2 * key_value + 2 * config.intermediate_size
    per_layer = item * (kept + config.num_attention_heads * _places_seen(lengths))
    per_token = layers * per_layer
    if recipe.gradient_checkpointing:
        per_token = layers * hidden * item + per_layer
    if loaded.model.device.type == "cuda":
        # A recorded pass keeps its memory while packs of a new size are still passed plainly.
        per_token *= 2
    return per_token


def _largest_batch(lengths: np.ndarray, batch_size: int) -> float:
    """Tokens of the largest of many batches drawn from sentences of these lengths."""
    expected = batch_size * lengths.mean() + SPREAD * lengths.std() * batch_size**0.5
    return min(float(expected), float(np.sort(lengths)[-batch_size:].sum()))


def _places_seen(lengths: np.ndarray) -> float:
    """Places that a token gives a weight to, on average over tokens; see `attention_layout`."""
    rounded = -(-lengths // SMALLEST_BIN) * SMALLEST_BIN
    return float((lengths * rounded).sum() / lengths.sum())


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device; for a CPU what the machine, or the container, has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_machine_memory(), *_container_memory()])


def bytes_in_words(count: float) -> str:
    """A size with a unit that fits.

    >>> bytes_in_words(3 * 2**29), bytes_in_words(900_000)
    ('1.5 GiB', '0.9 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def flops_in_words(count: float) -> str:
    """Floating-point operations with a unit that fits.

    >>> flops_in_words(1.73e9), flops_in_words(2.34e14), flops_in_words(5e19)
    ('1.7 GFLOP', '234.0 TFLOP', '50,000.0 PFLOP')
    """
    units = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))
    size, unit = next((pair for pair in units if count >= pair[0]), units[-1])
    return f"{count / size:,.1f} {unit}"


def _machine_memory() -> int:
    """Bytes that programs can have without swapping; the file cache gives way to them."""
    if MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # Not Linux: what others use is not told, so half of what is there.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _container_memory() -> tuple[int, ...]:
    """What a control group (version 2) leaves, where one limits this process."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
    except OSError:
        return ()
    return (max(int(limit) - used, 0),) if limit.isdecimal() else ()
