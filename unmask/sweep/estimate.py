"""What a sweep will cost, before it starts: tokens, arithmetic, memory, and how many to fuse.

Estimates, and called so wherever they are printed. The activation figure counts what stock
transformers blocks keep for backward when all their weights are frozen: about 16 hidden-sized
and 5 MLP-sized tensors a layer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import nn

from unmask.backbones import LoadedBackbone
from unmask.recipe import Recipe

MAX_FUSED = 16
"""Beyond this many runs a launch is full already; more only costs memory."""

SHARE_OF_MEMORY = 0.6
"""Of the free memory; the rest is for what the estimate does not see."""

LABELS_ASSUMED = 32


@dataclass(frozen=True)
class Cost:
    """Estimates for one backbone."""

    backbone_bytes: int
    bytes_per_run: int
    """Adapters, gradients, optimizer state and activations of one run's micro-batch."""
    tokens_per_run: int
    flops_per_token: int

    def stack_bytes(self, width: int) -> int:
        """Memory of `width` runs that share a forward pass."""
        return self.backbone_bytes + width * self.bytes_per_run

    def width(self, free_bytes: int, num_runs: int) -> int:
        """How many runs to fuse into `free_bytes`; at least 1."""
        room = SHARE_OF_MEMORY * free_bytes - self.backbone_bytes
        return max(1, min(int(room // self.bytes_per_run), MAX_FUSED, num_runs))


def estimate(
    loaded: LoadedBackbone, recipe: Recipe, train_tokens: int, num_sentences: int, steps: int
) -> Cost:
    """Cost of one run.

    Args:
        loaded: the backbone.
        recipe: how the run is trained.
        train_tokens: sub-tokens of the training split.
        num_sentences: sentences of the training split.
        steps: optimizer steps of the run.
    """
    config = loaded.model.config
    hidden, layers = config.hidden_size, config.num_hidden_layers
    linear = sum(
        module.in_features * module.out_features
        for module in loaded.model.modules()
        if isinstance(module, nn.Linear)  # bitsandbytes' 4-bit layer is one too
    )
    key_value = hidden * getattr(config, "num_key_value_heads", config.num_attention_heads)
    adapter = recipe.lora_rank * layers * (3 * hidden + key_value // config.num_attention_heads)
    trained = adapter + LABELS_ASSUMED * hidden
    state = 2 if recipe.optimizer == "paged_adamw_8bit" else 8
    item = getattr(torch, recipe.compute_dtype).itemsize
    per_layer = (16 * hidden + 5 * config.intermediate_size) * item
    per_token = layers * per_layer
    if recipe.gradient_checkpointing:
        per_token = layers * hidden * item + per_layer
    batch_tokens = train_tokens / num_sentences * recipe.batch_size
    batches = steps * recipe.accumulation
    return Cost(
        backbone_bytes=sum(p.numel() * p.element_size() for p in loaded.model.parameters()),
        bytes_per_run=int(trained * (8 + state) + per_token * batch_tokens),
        tokens_per_run=int(batches * batch_tokens),
        flops_per_token=4 * linear + 6 * trained,
    )


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device (for a CPU: in the machine)."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
