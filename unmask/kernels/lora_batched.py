"""Low-rank updates of many runs as batched matrix products.

Runs with equal token counts (runs of one seed share their batches) become one `bmm`; otherwise
each run has its own product.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped_lora(x: Tensor, lora_a: Tensor, lora_b: Tensor, run_offsets: Tensor) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.grouped_lora`."""
    return grouped_linear(grouped_linear(x, lora_a, run_offsets), lora_b, run_offsets)


def grouped_linear(x: Tensor, weight: Tensor, run_offsets: Tensor) -> Tensor:
    """`x @ weight[run].T` for the rows of each run.

    Args:
        x: [tokens, in_features], tokens sorted by run.
        weight: [runs, out_features, in_features].
        run_offsets: int32 [runs + 1] on the CPU.

    Returns:
        [tokens, out_features].
    """
    runs = weight.shape[0]
    if runs == 1:
        return F.linear(x, weight.squeeze(0))
    counts = run_offsets.diff().tolist()
    if len(set(counts)) == 1:
        by_run = x.reshape(runs, counts[0], x.shape[1])
        return torch.bmm(by_run, weight.transpose(1, 2)).flatten(0, 1)
    # unbind, because indexing one run's weight would cost a gradient as large as all runs' each.
    pieces = zip(x.split(counts), weight.unbind(), strict=True)
    return torch.cat([F.linear(piece, own) for piece, own in pieces])
