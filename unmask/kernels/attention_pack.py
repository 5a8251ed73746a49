"""What the Triton kernels of packed attention are told about a call, and who takes which sentence.

Sentences are told apart by their own length, never by the longest of the pack or by timings, so
that a sentence's result is the same bits wherever it lies and whoever lies beside it. Those up to
`SHORT` tokens are one tile each (`attention_short`); the others are cut into tiles
(`attention_forward`). float32, whose products do not run on the matrix units, and wide heads would
not fit into registers as one tile and are cut at every length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from unmask.kernels.interpreter import must_emulate

SHORT = 64
"""The longest sentence that is one tile, in tokens."""


@dataclass(frozen=True)
class Pack:
    """Besides tensors and tiles.

    Attributes:
        shared: keywords of every kernel that computes scores.
        halves: keywords of every kernel that turns heads by the angles of their places.
        cos: float [positions, head_dim / 2], or None.
        sin: the same.
        max_seqlen: the longest sentence, in tokens.
        scale: factor on the dot products.
        above: sentences of more tokens are cut into tiles, the others are one tile.
    """

    shared: dict[str, Any]
    halves: dict[str, Any]
    cos: Tensor | None
    sin: Tensor | None
    max_seqlen: int
    scale: float
    above: int

    @property
    def may_have_long(self) -> bool:
        """Whether some sentence may be cut into tiles; known without asking the device."""
        return self.max_seqlen > self.above


def describe(
    query: Tensor,
    key: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
    cos: Tensor | None,
    sin: Tensor | None,
) -> Pack:
    """Of a call of `unmask.kernels.varlen_attention`; cos and sin dense."""
    head_dim = query.shape[2]
    half, width = padded_sizes(head_dim)
    shared = {
        "cu_seqlens": cu_seqlens,
        "causal": causal.view(torch.uint8),
        "num_sentences": len(causal),
        "causal_stride": causal.stride(0),
        "inner_scale": scale * math.log2(math.e) if softcap is None else scale / softcap,
        "outer_scale": 1.0 if softcap is None else softcap * math.log2(math.e),
        "window": 0 if window is None else window,
        "GROUP": query.shape[1] // key.shape[1],
        "HEAD_DIM": head_dim,
        "WIDTH": width,
        "HAS_WINDOW": window is not None,
        "SOFTCAP": softcap is not None,
        "EMULATE": must_emulate(query.dtype),
    }
    halves = {"HALF": half, "ROTARY": cos is not None}
    above = longest_in_one_tile(head_dim, query.dtype)
    return Pack(shared, halves, cos, sin, max_seqlen, scale, above)


def longest_in_one_tile(head_dim: int, dtype: torch.dtype) -> int:
    """Tokens of a sentence that a program's registers hold; 0 where even few are cut."""
    return SHORT if dtype != torch.float32 and head_dim <= 128 else 0


def padded_sizes(head_dim: int) -> tuple[int, int]:
    """Half a head and a whole head, rounded up to what a matrix product in Triton takes."""
    half = max(16, triton.next_power_of_2((head_dim + 1) // 2))
    return half, max(16, triton.next_power_of_2(head_dim))


def with_unit_stride(x: Tensor) -> Tensor:
    """`x` itself where its last axis is dense, else a copy; the other strides are free."""
    return x if x.stride(-1) == 1 else x.contiguous()
