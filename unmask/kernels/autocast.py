"""How these operations meet `torch.autocast`: they compute in the dtypes that they are given.

Autocast changes the dtype of some of PyTorch's operations and not of others, so an operation that
is made of several would be handed unlike dtypes by itself, forward, or backward where only that
runs inside autocast. So it is switched off within. What a user of autocast expects of attention is
done at its door: queries, keys and values are cast as PyTorch casts them for its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(operation: Callable[P, R]) -> Callable[P, R]:
    """`operation` with autocast switched off for the device of its first tensor."""

    @wraps(operation)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(x.device.type for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        if not torch.is_autocast_enabled(device):
            return operation(*args, **kwargs)
        with torch.autocast(device, enabled=False):
            return operation(*args, **kwargs)

    return call


def differentiable_once(backward: Callable[..., R]) -> Callable[..., R]:
    """The backward of a `torch.autograd.Function`, which computes as its forward did."""
    return once_differentiable(without_autocast(backward))


def cast_by_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in the dtype of autocast where it is on; those in float64 stay what they are."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x if x.dtype == torch.float64 else x.to(dtype) for x in tensors)
