"""What the Triton kernels of packed attention share: tile shapes, where a program works, loads.

Every sentence is cut into tiles from its own first token, so its result is the same bits wherever
it lies in a pack and whoever lies beside it. For the same reason the shape of a tile follows from
the sentence's own length, the head size and the dtype, never from the longest of the pack or from
timings. Nothing is asked of the device on the way: a grid of `tokens // block + sentences` slots
is always enough, and each program finds its sentence from the cumulative lengths. Sentence s owns
the slots from `cu_seqlens[s] // block + s`; drawn for lengths 5, 8, 3 and tiles of 4 tokens:

    cu_seqlens   0                  5                  13          16
    slot         0        1         2        3         4     5     6
    tokens       0..3     4..4      5..8     9..12     -     13..15 -

One slot too many is left empty at most per sentence; its programs return at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.interpreter import narrow

SHORT = 64
"""Sentences up to this many tokens take small tiles; a pack of only these needs one launch."""

UNLIMITED = 2**31 - 1
SEARCH_BLOCK = 256
"""Sentences that a program looks at in one step when it searches its own."""


@dataclass(frozen=True)
class Tile:
    """Shape of the work of one program, in tokens, and how the compiler is to lay it out."""

    block_query: int
    block_key: int
    num_warps: int
    num_stages: int

    def options(self) -> dict[str, Any]:
        """As keywords of a launch; fusion is named because Triton's default is about to change."""
        return {
            "BLOCK_Q": self.block_query,
            "BLOCK_K": self.block_key,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "enable_fp_fusion": True,
        }


@dataclass(frozen=True)
class LengthClass:
    """Sentences of more than `above` and at most `up_to` tokens, and the tiles they take."""

    above: int
    up_to: int
    forward: Tile
    grad_query: Tile
    grad_key: Tile


def length_classes(head_dim: int, dtype: torch.dtype, max_seqlen: int) -> list[LengthClass]:
    """The launches that a pack needs: one, or two where a sentence is longer than `SHORT`.

    Chosen by what an H100's registers hold (benchmarks/kernel_resources.py shows it), by no clock.
    float32 products do not run on the matrix units (their rounding would be that of tf32) and, like
    wide heads, fill the registers sooner: both take small tiles at every length.
    """
    if dtype == torch.float32:
        small = Tile(16, 16, 4, 1) if head_dim > 64 else Tile(32, 32, 4, 2)
        return [LengthClass(0, UNLIMITED, small, small, small)]
    small = Tile(32, 32, 4, 2)
    if head_dim > 128:
        return [LengthClass(0, UNLIMITED, small, small, Tile(32, 32, 8, 1))]
    wide = head_dim > 64
    classes = [LengthClass(0, SHORT, small, small, Tile(32, 32, 4, 1) if wide else small)]
    if max_seqlen > SHORT:
        forward = Tile(128, 64, 8 if wide else 4, 3)
        grad_key = Tile(32, 64, 8, 2) if wide else Tile(64, 64, 4, 2)
        grad_query = Tile(128, 64, 8, 2) if wide else Tile(64, 64, 4, 2)
        classes.append(LengthClass(SHORT, UNLIMITED, forward, grad_query, grad_key))
    return classes


def num_slots(num_tokens: int, num_sentences: int, block: int) -> int:
    """Programs that are enough for every sentence, known without its length."""
    return num_tokens // block + num_sentences


def padded_sizes(head_dim: int) -> tuple[int, int]:
    """Half a head and a whole head, rounded up to what a matrix product in Triton takes."""
    half = max(16, triton.next_power_of_2((head_dim + 1) // 2))
    return half, max(16, triton.next_power_of_2(head_dim))


def with_unit_stride(x: Tensor) -> Tensor:
    """`x` itself where its last axis is dense, else a copy; the other strides are free."""
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def find_tile(
    cu_seqlens, num_sentences, above, up_to, BLOCK: tl.constexpr, SEARCH_BLOCK: tl.constexpr
):
    """Sentence, its first token, its length, and where this program's tile begins in it.

    A slot without work, or whose sentence is not above `above` and up to `up_to` tokens long,
    gets a tile that begins at or after the length.
    """
    slot = tl.program_id(0)
    owners = 0
    for first in range(0, num_sentences, SEARCH_BLOCK):
        index = first + tl.arange(0, SEARCH_BLOCK)
        exists = index < num_sentences
        begin = tl.load(cu_seqlens + index, mask=exists, other=0)
        owners += tl.sum((exists & (begin // BLOCK + index <= slot)).to(tl.int32), 0)
    sentence = owners - 1
    begin = tl.load(cu_seqlens + sentence)
    length = tl.load(cu_seqlens + sentence + 1) - begin
    tile_begin = (slot - begin // BLOCK - sentence) * BLOCK
    in_class = (length > above) & (length <= up_to)
    return sentence, begin.to(tl.int64), length, tl.where(in_class, tile_begin, length)


@triton.jit
def key_range(
    tile_begin, length, is_causal, window, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):  # fmt: skip
    """The keys that some query of a tile may see; the first is a multiple of `BLOCK_K`."""
    low = 0
    high = tl.where(is_causal, tl.minimum(length, tile_begin + BLOCK_Q), length)
    if HAS_WINDOW:
        low = tl.maximum(tile_begin - window + 1, 0) // BLOCK_K * BLOCK_K
        high = tl.minimum(high, tile_begin + BLOCK_Q - 1 + window)
    return low, high


@triton.jit
def query_range(
    tile_begin, length, is_causal, window, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):  # fmt: skip
    """The queries that may see some key of a tile; the first is a multiple of `BLOCK_Q`."""
    low = tl.where(is_causal, tile_begin // BLOCK_Q * BLOCK_Q, 0)
    high = length
    if HAS_WINDOW:
        nearest = tl.maximum(tile_begin - window + 1, 0) // BLOCK_Q * BLOCK_Q
        low = tl.maximum(low, nearest)
        high = tl.minimum(high, tile_begin + BLOCK_K - 1 + window)
    return low, high


@triton.jit
def visible(query_index, key_index, length, is_causal, window, HAS_WINDOW: tl.constexpr):
    """May the query see the key? Indices are places in the sentence and broadcast."""
    distance = query_index - key_index
    seen = (query_index < length) & (key_index < length) & ((distance >= 0) | (is_causal == 0))
    if HAS_WINDOW:
        seen = seen & (distance < window) & (-distance < window)
    return seen


@triton.jit
def load_halves(
    base, stride, rows, length, cos, sin,
    HEAD_DIM: tl.constexpr, HALF: tl.constexpr, ROTARY: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """Rows of one head as two halves, rotated where asked, zero beyond sentence and head."""
    FIRST: tl.constexpr = (HEAD_DIM + 1) // 2
    column = tl.arange(0, HALF)[None, :]
    inside = (rows < length)[:, None]
    place = base + rows[:, None] * stride + column
    first = tl.load(place, mask=inside & (column < FIRST), other=0.0)
    second = tl.load(place + FIRST, mask=inside & (column + FIRST < HEAD_DIM), other=0.0)
    if ROTARY:
        c, s = load_angles(cos, sin, rows, length, HEAD_DIM, HALF)
        x, y = first.to(tl.float32), second.to(tl.float32)
        first = narrow(x * c - y * s, base.dtype.element_ty, EMULATE)
        second = narrow(y * c + x * s, base.dtype.element_ty, EMULATE)
    return first, second


@triton.jit
def load_angles(cos, sin, rows, length, HEAD_DIM: tl.constexpr, HALF: tl.constexpr):
    """Cosines and sines of the positions `rows`, float32 [rows, HALF]."""
    column = tl.arange(0, HALF)[None, :]
    kept = (rows < length)[:, None] & (column < HEAD_DIM // 2)
    place = rows[:, None] * (HEAD_DIM // 2) + column
    c = tl.load(cos + place, mask=kept, other=0.0).to(tl.float32)
    s = tl.load(sin + place, mask=kept, other=0.0).to(tl.float32)
    return c, s


@triton.jit
def load_rows(base, stride, rows, length, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of one head in one piece [rows, WIDTH], zero beyond sentence and head."""
    column = tl.arange(0, WIDTH)[None, :]
    kept = (rows < length)[:, None] & (column < HEAD_DIM)
    return tl.load(base + rows[:, None] * stride + column, mask=kept, other=0.0)


@triton.jit
def store_halves(
    base, stride, rows, length, first, second, cos, sin,
    HEAD_DIM: tl.constexpr, HALF: tl.constexpr, ROTARY: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """Gradients of rotated halves, turned back and written."""
    FIRST: tl.constexpr = (HEAD_DIM + 1) // 2
    if ROTARY:
        c, s = load_angles(cos, sin, rows, length, HEAD_DIM, HALF)
        x, y = first, second
        first = x * c + y * s
        second = y * c - x * s
    column = tl.arange(0, HALF)[None, :]
    inside = (rows < length)[:, None]
    place = base + rows[:, None] * stride + column
    dtype = base.dtype.element_ty
    tl.store(place, narrow(first, dtype, EMULATE), mask=inside & (column < FIRST))
    second_kept = inside & (column + FIRST < HEAD_DIM)
    tl.store(place + FIRST, narrow(second, dtype, EMULATE), mask=second_kept)


@triton.jit
def scores_of(products, inner_scale, outer_scale, SOFTCAP: tl.constexpr):
    """Scores in units of log 2, capped where asked.

    tanh from its series near zero and from one exponential elsewhere: neither cancels.
    """
    x = products * inner_scale
    if SOFTCAP:
        size = tl.abs(x)
        decay = tl.exp(-2.0 * size)
        far = (1.0 - decay) / (1.0 + decay)
        y = x * x
        series = 1.0 + y * (-1.0 / 3 + y * (2.0 / 15 + y * (-17.0 / 315 + y * (62.0 / 2835))))
        x = outer_scale * tl.where(size < 0.25, x * series, tl.where(x < 0, -far, far))
    return x
