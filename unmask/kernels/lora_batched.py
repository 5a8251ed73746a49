"""Low-rank updates of many runs as batched matrix products.

Runs with equal token counts (runs of one seed share their batches) become one batched product;
otherwise each run has its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unmask.kernels.dropout import Dropout, drop
from unmask.kernels.lora_autograd import low_rank_update


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
    products = _BatchedProducts(run_offsets, dropout)
    return low_rank_update(base, x, lora_a, lora_b, products, scale, dropout)


def grouped_linear(
    x: Tensor, weight: Tensor, run_offsets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_linear`."""
    runs = weight.shape[0]
    biases = [None] * runs if bias is None else bias.unbind()
    if runs == 1:
        return F.linear(x, weight.squeeze(0), biases[0])
    counts = run_offsets.diff().tolist()
    if len(set(counts)) == 1:
        by_run, turned = _by_run(x, runs), weight.transpose(1, 2)
        if bias is None:
            return torch.bmm(by_run, turned).flatten(0, 1)
        return torch.baddbmm(bias[:, None], by_run, turned).flatten(0, 1)
    # unbind, because indexing one run's weight would cost a gradient as large as all runs' each.
    pieces = zip(x.split(counts), weight.unbind(), biases, strict=True)
    return torch.cat([F.linear(*piece) for piece in pieces])


class _BatchedProducts:
    """`unmask.kernels.lora_autograd.Products` by PyTorch, the mask kept as a factor."""

    def __init__(self, run_offsets: Tensor, dropout: Dropout | None) -> None:
        self.run_offsets = run_offsets
        self.counts: list[int] = run_offsets.diff().tolist()
        self.alike = len(set(self.counts)) == 1
        self.dropout = dropout

    def mask(self, x: Tensor) -> Tensor | None:
        if self.dropout is None:
            return None
        return self.dropout.kept(self.run_offsets, x)

    def linear(
        self,
        x: Tensor,
        weight: Tensor,
        scale: float = 1.0,
        base: Tensor | None = None,
        drop_input: bool = False,
        drop_output: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        weight = weight.to(x.dtype)
        if base is not None:
            return self._added(base, x, weight, scale)
        if mask is not None and drop_input:
            x = drop(x, mask)
        out = grouped_linear(x, weight, self.run_offsets)
        if mask is not None and drop_output:
            out = drop(out, mask)
        return out if scale == 1 else out.mul_(scale)

    def outer(
        self,
        left: Tensor,
        right: Tensor,
        like: Tensor,
        drop_right: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        if mask is not None and drop_right:
            right = drop(right, mask)
        if self.alike:
            runs = len(self.counts)
            out = torch.bmm(_by_run(left, runs).transpose(1, 2), _by_run(right, runs))
            return out.to(like.dtype)
        out = left.new_empty(like.shape)
        pieces = zip(left.split(self.counts), right.split(self.counts), out, strict=True)
        for a, b, place in pieces:
            torch.mm(a.T, b, out=place)
        return out.to(like.dtype)

    def _added(self, base: Tensor, x: Tensor, weight: Tensor, scale: float) -> Tensor:
        runs = len(self.counts)
        if runs == 1:
            return torch.addmm(base, x, weight[0].T, alpha=scale)
        if self.alike:
            stacked = (_by_run(base, runs), _by_run(x, runs), weight.transpose(1, 2))
            return torch.baddbmm(*stacked, alpha=scale).flatten(0, 1)
        out = torch.empty_like(base)
        split = (tensor.split(self.counts) for tensor in (base, x, out))
        for start, own, place, matrix in zip(*split, weight, strict=True):
            torch.addmm(start, own, matrix.T, alpha=scale, out=place)
        return out


def dropped(x: Tensor, run_offsets: Tensor, dropout: Dropout) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.dropped`."""
    return drop(x, dropout.kept(run_offsets, x)) * dropout.rescale


def _by_run(x: Tensor, runs: int) -> Tensor:
    """[tokens, features] of runs with equal counts as [runs, tokens of one, features]."""
    return x.reshape(runs, x.shape[0] // runs, x.shape[1])
