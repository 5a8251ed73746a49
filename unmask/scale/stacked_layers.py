"""Stock layers with weights for each run of a stack, so that all parameters can be trained at once.

    tokens of one pack   | run 0 ........ | run 1 .... | run 2 ........... |
    a layer's weights    |      W[0]      |    W[1]    |       W[2]        |

What is put in the place of a layer takes what that takes; the stock code around it does not notice.
Which tokens are whose it reads from the route. Weights of the runs begin as those of the layer.
Linear layers compute in a dtype of their own, norms and embeddings in that of the weights, as
PyTorch's autocast has it. The one thing that is easy to get wrong: a run that is not finite must
stay alone with it, so nothing here multiplies one run's numbers by zero to leave them out.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from unmask.kernels import grouped_linear, rms_norm
from unmask.route import Route


class StackedLinear(nn.Module):
    """A linear layer per run."""

    def __init__(self, layer: nn.Linear, num_runs: int, route: Route, dtype: torch.dtype) -> None:
        super().__init__()
        self.route = route
        self.dtype = dtype
        self.weight = _repeated(layer.weight, num_runs)
        self.bias = None if layer.bias is None else _repeated(layer.bias, num_runs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., tokens, in_features] -> [..., tokens, out_features], in the layer's dtype."""
        bias = None if self.bias is None else self.bias.to(self.dtype)
        flat, weight = x.flatten(0, -2).to(self.dtype), self.weight.to(self.dtype)
        return grouped_linear(flat, weight, self.route.run_offsets, bias).view(*x.shape[:-1], -1)


class StackedEmbedding(nn.Module):
    """A table per run."""

    def __init__(
        self, layer: nn.Embedding, num_runs: int, route: Route, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.route = route
        self.padding_idx = layer.padding_idx
        self.weight = _repeated(layer.weight, num_runs)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids int64 [..., tokens] -> [..., tokens, features]."""
        of_all_runs = ids + self.weight.shape[1] * self.route.batch.runs
        rows = F.embedding(of_all_runs, self.weight.flatten(0, 1))
        if self.padding_idx is None:
            return rows
        return torch.where((ids == self.padding_idx)[..., None], rows.detach(), rows)


class StackedLayerNorm(nn.Module):
    """A layer norm per run."""

    def __init__(
        self, layer: nn.LayerNorm, num_runs: int, route: Route, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.route = route
        self.eps = layer.eps
        self.weight = _repeated(layer.weight, num_runs)
        self.bias = _repeated(layer.bias, num_runs)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., tokens, features] -> the same, in the dtype of the weights."""
        even = F.layer_norm(x.to(self.weight.dtype), x.shape[-1:], eps=self.eps)
        runs = self.route.batch.runs
        return torch.addcmul(F.embedding(runs, self.bias), even, F.embedding(runs, self.weight))


class StackedRMSNorm(nn.Module):
    """Llama's norm per run."""

    ones: Tensor

    def __init__(
        self, layer: LlamaRMSNorm, num_runs: int, route: Route, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.route = route
        self.eps = layer.variance_epsilon
        self.weight = _repeated(layer.weight, num_runs)
        self.register_buffer("ones", torch.ones_like(layer.weight.detach()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., tokens, features] -> the same, in the dtype of the weights."""
        even = rms_norm(x.to(self.weight.dtype), self.ones, self.eps)
        return even * F.embedding(self.route.batch.runs, self.weight)


STACKED: dict[type[nn.Module], Any] = {
    nn.Linear: StackedLinear,
    nn.Embedding: StackedEmbedding,
    nn.LayerNorm: StackedLayerNorm,
    LlamaRMSNorm: StackedRMSNorm,
}
"""What takes the place of which layer."""


def stack_layers(backbone: nn.Module, num_runs: int, route: Route, dtype: torch.dtype) -> None:
    """Give every run weights of its own in all layers of a stock model, in place.

    Args:
        backbone: the model; its weights are those that every run begins with.
        num_runs: how many runs.
        route: of the model that is made of it.
        dtype: in which linear layers compute.

    Raises:
        ValueError: when a parameter lies in a layer of another kind, so that runs would share it.
    """
    places = [(name, layer) for name, layer in backbone.named_modules() if type(layer) in STACKED]
    names = tuple(f"{name}." for name, _ in places)
    shared = [name for name, _ in backbone.named_parameters() if not name.startswith(names)]
    if shared:
        raise ValueError(
            f"all runs of a stack would share {', '.join(shared)} of {type(backbone).__name__}; "
            f"layers that can be stacked are {', '.join(kind.__name__ for kind in STACKED)}"
        )
    for name, layer in places:
        backbone.set_submodule(name, STACKED[type(layer)](layer, num_runs, route, dtype))


def _repeated(weight: Tensor, num_runs: int) -> nn.Parameter:
    return nn.Parameter(weight.detach().expand(num_runs, *weight.shape).clone())
