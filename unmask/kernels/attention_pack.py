"""What the Triton kernels of packed attention are told about a call, and who takes which sentence.

Sentences are told apart by their own length, never by the longest of the pack or by timings, so
that a sentence's result is the same bits wherever it lies and whoever lies beside it. Those up to
`SHORT` tokens are one tile each (`attention_short`); the others are cut into tiles
(`attention_forward`). float32, whose products do not run on the matrix units, and wide heads would
not fit into registers as one tile and are cut at every length.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from functools import cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from unmask.kernels.interpreter import must_emulate
from unmask.kernels.launching import dense_key

SHORT = 64
"""The longest sentence that is one tile, in tokens."""
LOG2_E = math.log2(math.e)


class Pack(NamedTuple):
    """Besides tensors and tiles.

    Attributes:
        arguments: of every kernel that computes scores, in the order of its parameters.
        constants: of the same, in the same order.
        half: places for half a head.
        cu_seqlens: int32 [sentences + 1].
        num_sentences: of the pack.
        cos: float [positions, head_dim / 2], or None.
        sin: the same.
        max_seqlen: the longest sentence, in tokens.
        scale: factor on the dot products.
        above: sentences of more tokens are cut into tiles, the others are one tile.
        key: what kernels are compiled for of all this, beside constants: see `launching`.
    """

    arguments: tuple[Any, ...]
    constants: tuple[Any, ...]
    half: int
    cu_seqlens: Tensor
    num_sentences: int
    cos: Tensor | None
    sin: Tensor | None
    max_seqlen: int
    scale: float
    above: int
    key: tuple[Hashable, ...]

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
    heads, head_dim = query.shape[1:]
    kv_heads = key.shape[1]
    half, width, above = _sizes(head_dim, query.dtype)
    num_sentences = len(causal)
    # One that needs 64 bits would take another kernel.
    window_size = 0 if window is None else min(window, max_seqlen)
    arguments = (
        cu_seqlens,
        causal.view(torch.uint8),
        num_sentences,
        causal.stride(0),
        scale * LOG2_E if softcap is None else scale / softcap,
        1.0 if softcap is None else softcap * LOG2_E,
        window_size,
    )
    constants = (
        heads // kv_heads,
        head_dim,
        width,
        window is not None,
        softcap is not None,
        must_emulate(query.dtype),
    )
    tables = dense_key(cos, sin)
    return Pack(
        arguments=arguments,
        constants=constants,
        half=half,
        cu_seqlens=cu_seqlens,
        num_sentences=num_sentences,
        cos=cos,
        sin=sin,
        max_seqlen=max_seqlen,
        scale=float(scale),
        above=above,
        key=(query.get_device(), kv_heads, cu_seqlens.dtype, tables),
    )


@cache
def _sizes(head_dim: int, dtype: torch.dtype) -> tuple[int, int, int]:
    return *padded_sizes(head_dim), longest_in_one_tile(head_dim, dtype)


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
