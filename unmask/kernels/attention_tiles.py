"""What the Triton kernels of packed attention share: loads and stores, what is seen, scores.

And how sentences longer than one tile are cut: from their own first token, into tiles whose shape
follows from head size and dtype, so that results are the same bits wherever a sentence lies. The
host knows neither lengths nor the number of tiles. A launch has some programs; each counts the
tiles of the pack, takes every n-th, and finds the sentence of each from the cumulative lengths.
Drawn for lengths 5, 3, 8, 6, sentences above 4 and tiles of 4 tokens:

    cu_seqlens   0                  5   8                  16                 22
    tile         0        1             2        3         4         5
    tokens       0..3     4..4          8..11    12..15    16..19    20..21
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_pack import Pack
from unmask.kernels.interpreter import narrow
from unmask.kernels.launching import Launcher, Options, dense_key, operands

VARYING = ["num_tokens", "num_sentences", "above", "causal_stride", "window"]
"""Numbers that Triton must not compile for: another program could round otherwise."""
UNALIGNED = ["cu_seqlens", "causal"]
"""Tensors read number by number, whose alignment is not worth a compilation."""
SEARCH_BLOCK = 1024
"""Sentences that a program looks at in one step when it searches its own."""
FEW_PROGRAMS = 528
"""Enough to fill a GPU four times over."""
MANY_PROGRAMS_FROM = 1024
"""The longest sentence, in tokens, from which on every tile gets a program of its own.

Before, most programs could be without work, and starting one takes as long as a tile.
"""


class Tile(NamedTuple):
    """Shape of the work of one program, in tokens, and how the compiler is to lay it out."""

    block_query: int
    block_key: int
    options: Options


class Tiles(NamedTuple):
    """Of the three kernels that cut sentences."""

    forward: Tile
    grad_query: Tile
    grad_key: Tile


@cache
def tiles_of(head_dim: int, dtype: torch.dtype) -> Tiles:
    """Chosen by what an H100's registers hold (benchmarks/kernel_resources.py), by no clock."""
    if dtype == torch.float32:
        small = Tile(16, 16, Options(4, 1)) if head_dim > 64 else Tile(32, 32, Options(4, 2))
        return Tiles(small, small, small)
    if head_dim > 128:
        small = Tile(32, 32, Options(4, 2))
        return Tiles(small, small, Tile(32, 32, Options(8, 1)))
    return LONG_WIDE if head_dim > 64 else LONG_NARROW


LONG_WIDE = Tiles(
    forward=Tile(128, 64, Options(8, 3)),
    grad_query=Tile(128, 64, Options(8, 1)),
    grad_key=Tile(64, 128, Options(8, 1)),
)
"""For heads of up to 128 in 16 bits."""
LONG_NARROW = Tiles(
    forward=Tile(128, 64, Options(8, 3)),
    grad_query=Tile(64, 64, Options(4, 2)),
    grad_key=Tile(64, 128, Options(8, 2)),
)
"""For heads of up to 64 in 16 bits."""


def programs(num_tokens: int, pack: Pack, block: int, heads: int) -> tuple[int, int, int]:
    """The grid over tiles of `block` tokens and heads: no more than there may be work for."""
    long_sentences = min(pack.num_sentences, num_tokens // (pack.above + 1))
    most = (num_tokens // block + long_sentences) * heads
    return most if pack.max_seqlen >= MANY_PROGRAMS_FROM else min(most, FEW_PROGRAMS), 1, 1


def launch_tiles(
    launch: Launcher,
    tile: Tile,
    block: int,
    heads: int,
    tensors: tuple[Tensor, ...],
    sums: tuple[Tensor, ...],
    pack: Pack,
    *numbers: float,
) -> None:
    """Over the tiles of all long sentences.

    Args:
        launch: of a kernel that computes scores.
        tile: shape of its work.
        block: that of the two sides of a tile whose rows a program owns.
        heads: that programs take one by one.
        tensors: of heads: the query and others.
        sums: float32 [heads, tokens] each.
        pack: see `attention_pack.describe`.
        *numbers: what only this kernel takes.
    """
    every, strides, kinds = operands(*tensors)
    num_tokens = len(every[0])
    launch(
        programs(num_tokens, pack, block, heads),
        (kinds, dense_key(*sums), pack.key),
        (*every, *sums, *strides, num_tokens, pack.above, heads, *numbers, *pack.arguments),
        (*pack.constants, SEARCH_BLOCK, tile.block_query, tile.block_key),
        tile.options,
    )


@triton.jit
def tiles_in(cu_seqlens, index, num_sentences, above, BLOCK: tl.constexpr):
    """Tiles of the sentences `index`, none for those of up to `above` tokens."""
    exists = index < num_sentences
    begin = tl.load(cu_seqlens + index, mask=exists, other=0)
    length = tl.load(cu_seqlens + index + 1, mask=exists, other=0) - begin
    return tl.where(length > above, (length + BLOCK - 1) // BLOCK, 0)


@triton.jit
def count_tiles(cu_seqlens, num_sentences, above, BLOCK: tl.constexpr, SEARCH_BLOCK: tl.constexpr):
    """Of the whole pack."""
    total = 0
    for first in range(0, num_sentences, SEARCH_BLOCK):
        index = first + tl.arange(0, SEARCH_BLOCK)
        total += tl.sum(tiles_in(cu_seqlens, index, num_sentences, above, BLOCK), 0)
    return total


@triton.jit
def find_tile(
    cu_seqlens, num_sentences, above, tile, BLOCK: tl.constexpr, SEARCH_BLOCK: tl.constexpr
):
    """Sentence, its first token, its length, and where the `tile` of the pack begins in it."""
    sentence = 0
    earlier = 0
    first_tile = 0
    for first in range(0, num_sentences, SEARCH_BLOCK):
        index = first + tl.arange(0, SEARCH_BLOCK)
        tiles = tiles_in(cu_seqlens, index, num_sentences, above, BLOCK)
        passed = (earlier + tl.cumsum(tiles, 0) <= tile) & (index < num_sentences)
        sentence += tl.sum(passed.to(tl.int32), 0)
        first_tile += tl.sum(tl.where(passed, tiles, 0), 0)
        earlier += tl.sum(tiles, 0)
    begin = tl.load(cu_seqlens + sentence)
    length = tl.load(cu_seqlens + sentence + 1) - begin
    return sentence, begin.to(tl.int64), length, (tile - first_tile) * BLOCK


@triton.jit
def key_range(
    tile_begin, length, is_causal, window, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):  # fmt: skip
    """The keys that some query of a tile may see: the first, the end of those all see, the end.

    The first two are multiples of `BLOCK_K`.
    """
    low = 0
    high = tl.where(is_causal, tl.minimum(length, tile_begin + BLOCK_Q), length)
    if HAS_WINDOW:
        low = tl.maximum(tile_begin - window + 1, 0) // BLOCK_K * BLOCK_K
        high = tl.minimum(high, tile_begin + BLOCK_Q - 1 + window)
        middle = low
    else:
        middle = tl.where(is_causal, tile_begin + 1, length) // BLOCK_K * BLOCK_K
    return low, middle, high


@triton.jit
def query_range(
    tile_begin, length, is_causal, window, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
):  # fmt: skip
    """The queries that may see some key of a tile: the first, the first that sees all, the end.

    The first is a multiple of `BLOCK_Q`, and the second, where it is not the end.
    """
    low = tl.where(is_causal, tile_begin // BLOCK_Q * BLOCK_Q, 0)
    high = length
    if HAS_WINDOW:
        nearest = tl.maximum(tile_begin - window + 1, 0) // BLOCK_Q * BLOCK_Q
        low = tl.maximum(low, nearest)
        high = tl.minimum(high, tile_begin + BLOCK_K - 1 + window)
        middle = high
    else:
        below = (tile_begin + BLOCK_K + BLOCK_Q - 2) // BLOCK_Q * BLOCK_Q
        middle = tl.where(is_causal, tl.minimum(below, high), low)
    return low, middle, high


@triton.jit
def visible(query_index, key_index, length, is_causal, window, HAS_WINDOW: tl.constexpr):
    """May the query see the key? Indices are places in the sentence and broadcast."""
    distance = query_index - key_index
    seen = (query_index < length) & (key_index < length) & ((distance >= 0) | (is_causal == 0))
    if HAS_WINDOW:
        seen = seen & (distance < window) & (-distance < window)
    return seen


@triton.jit
def load_rows(base, stride, rows, length, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of one head in one piece [rows, WIDTH], zero beyond sentence and head."""
    column = tl.arange(0, WIDTH)[None, :]
    kept = (rows < length)[:, None]
    if WIDTH > HEAD_DIM:
        kept = kept & (column < HEAD_DIM)
    return tl.load(base + rows[:, None] * stride + column, mask=kept, other=0.0)


@triton.jit
def load_inner_rows(base, stride, rows, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The same where all rows are known to lie in the sentence."""
    column = tl.arange(0, WIDTH)[None, :]
    place = base + rows[:, None] * stride + column
    return tl.load(place, mask=column < HEAD_DIM, other=0.0) if WIDTH > HEAD_DIM else tl.load(place)


@triton.jit
def store_rows(
    base, stride, rows, length, x,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, EMULATE: tl.constexpr,
):  # fmt: skip
    """Write float32 [rows, WIDTH], rounded, where sentence and head have a place for it."""
    column = tl.arange(0, WIDTH)[None, :]
    kept = (rows < length)[:, None] & (column < HEAD_DIM)
    place = base + rows[:, None] * stride + column
    tl.store(place, narrow(x, base.dtype.scalar.element_ty, EMULATE), mask=kept)


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


@triton.jit
def slope_of(scores, outer_scale, SOFTCAP: tl.constexpr):
    """Derivative of the scores by those before the cap."""
    if SOFTCAP:
        capped = scores / outer_scale
        slope = 1.0 - capped * capped
    else:
        slope = 1.0
    return slope
