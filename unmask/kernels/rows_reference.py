"""What a decoder block does to each token by itself, as stock transformers computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.rms_norm`."""
    precise = x.float()
    norm = precise * torch.rsqrt(precise.square().mean(-1, keepdim=True) + eps)
    return weight * norm.to(x.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.swiglu`."""
    return F.silu(gate) * up
