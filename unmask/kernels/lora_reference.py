"""Low-rank updates as a loop over runs: the definition that the others are tested against."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from unmask.kernels.dropout import Dropout, drop


def grouped_lora(
    base: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    run_offsets: Tensor,
    scale: float,
    dropout: Dropout | None = None,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_lora`."""
    a, b = lora_a.to(x.dtype), lora_b.to(x.dtype)
    if dropout is not None:
        x = drop(x, dropout.kept(run_offsets, x)) * dropout.rescale
    outputs = [
        base[start:end] + scale * (x[start:end] @ a[run].T @ b[run].T)
        for run, (start, end) in enumerate(pairwise(run_offsets.tolist()))
    ]
    return torch.cat(outputs)
