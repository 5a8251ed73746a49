"""Low-rank updates as a loop over runs: the definition that the others are tested against."""

from __future__ import annotations

import torch
from torch import Tensor


def grouped_lora(x: Tensor, lora_a: Tensor, lora_b: Tensor, run_offsets: Tensor) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_lora`."""
    outputs = [
        x[start:end] @ lora_a[run].T @ lora_b[run].T
        for run, (start, end) in enumerate(
            zip(run_offsets[:-1].tolist(), run_offsets[1:].tolist(), strict=True)
        )
    ]
    return torch.cat(outputs)
