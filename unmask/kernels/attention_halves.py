"""Heads as two halves, turned by the angles of their places: rotary embedding in Triton.

Kernels whose sentences are one tile turn what they load. Sentences cut into tiles are read many
times, so their queries and keys are turned once beforehand, and their gradients turned back.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels import attention_tiles
from unmask.kernels.attention_pack import Pack
from unmask.kernels.attention_tiles import UNALIGNED, VARYING, count_tiles, find_tile, programs
from unmask.kernels.interpreter import narrow
from unmask.kernels.launching import Launcher, Options, operands

BLOCK = 16
"""Tokens that a program turns in one step."""
OPTIONS = Options(num_warps=4, num_stages=1)


def turn_long(query: Tensor, key: Tensor, pack: Pack) -> tuple[Tensor, Tensor]:
    """Both with the rows of long sentences turned, and the others unset; without angles as is."""
    if pack.cos is None:
        return query, key
    turned_query, turned_key = torch.empty_like(query), torch.empty_like(key)
    _turn(query, key, turned_query, turned_key, 1.0, pack)
    return turned_query, turned_key


def turn_long_back(grad_query: Tensor, grad_key: Tensor, pack: Pack) -> None:
    """The gradients of what `turn_long` gave, in place."""
    if pack.cos is not None:
        _turn(grad_query, grad_key, grad_query, grad_key, -1.0, pack)


def _turn(
    query: Tensor, key: Tensor, turned_query: Tensor, turned_key: Tensor, way: float, pack: Pack
) -> None:
    tensors, strides, kinds = operands(query, key, turned_query, turned_key)
    num_tokens, kv_heads, _ = key.shape
    group, head_dim, *_, emulate = pack.constants
    _launch_turn(
        programs(num_tokens, pack, BLOCK, kv_heads),
        (kinds, pack.key),
        (
            *tensors, *strides, pack.above, pack.cos, pack.sin, way, kv_heads,
            pack.cu_seqlens, pack.num_sentences,
        ),
        (group, head_dim, pack.half, emulate, attention_tiles.SEARCH_BLOCK, BLOCK),
        OPTIONS,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _turn_kernel(
    query, key, turned_query, turned_key,
    query_stride, query_head_stride, key_stride, key_head_stride,
    turned_query_stride, turned_query_head_stride, turned_key_stride, turned_key_head_stride,
    above, cos, sin, way, kv_heads, cu_seqlens, num_sentences,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, EMULATE: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK tokens at a time: the heads of a group and the keys that they share."""
    total = count_tiles(cu_seqlens, num_sentences, above, BLOCK, SEARCH_BLOCK)
    dtype = query.dtype.element_ty
    for item in range(tl.program_id(0), total * kv_heads, tl.num_programs(0)):
        _, begin, length, tile_begin = find_tile(
            cu_seqlens, num_sentences, above, item // kv_heads, BLOCK, SEARCH_BLOCK
        )
        kv_head = (item % kv_heads).to(tl.int64)
        rows = tile_begin + tl.arange(0, BLOCK)
        c, s = load_angles(cos, sin, rows, length, HEAD_DIM, HALF)
        s = s * way
        for member in range(0, GROUP):
            head = kv_head * GROUP + member
            place = query + begin * query_stride + head * query_head_stride
            first, second = load_halves(place, query_stride, rows, length, HEAD_DIM, HALF)
            first, second = turned(first, second, c, s, dtype, EMULATE)
            place = turned_query + begin * turned_query_stride + head * turned_query_head_stride
            store_halves(place, turned_query_stride, rows, length, first, second, HEAD_DIM, HALF)
        place = key + begin * key_stride + kv_head * key_head_stride
        first, second = load_halves(place, key_stride, rows, length, HEAD_DIM, HALF)
        first, second = turned(first, second, c, s, dtype, EMULATE)
        place = turned_key + begin * turned_key_stride + kv_head * turned_key_head_stride
        store_halves(place, turned_key_stride, rows, length, first, second, HEAD_DIM, HALF)


_launch_turn = Launcher(_turn_kernel)


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
def load_halves(base, stride, rows, length, HEAD_DIM: tl.constexpr, HALF: tl.constexpr):
    """Rows of one head as two halves [rows, HALF], zero beyond sentence and head."""
    FIRST: tl.constexpr = (HEAD_DIM + 1) // 2
    column = tl.arange(0, HALF)[None, :]
    inside = (rows < length)[:, None]
    place = base + rows[:, None] * stride + column
    first = tl.load(place, mask=inside & (column < FIRST), other=0.0)
    second = tl.load(place + FIRST, mask=inside & (column + FIRST < HEAD_DIM), other=0.0)
    return first, second


@triton.jit
def turned(first, second, c, s, dtype: tl.constexpr, EMULATE: tl.constexpr):
    """Halves of rows rotated by the angles of their places, in `dtype`; by -s: turned back."""
    x, y = first.to(tl.float32), second.to(tl.float32)
    return narrow(x * c - y * s, dtype, EMULATE), narrow(y * c + x * s, dtype, EMULATE)


@triton.jit
def store_halves(
    base, stride, rows, length, first, second, HEAD_DIM: tl.constexpr, HALF: tl.constexpr
):
    """Write halves of rows where sentence and head have a place for them."""
    FIRST: tl.constexpr = (HEAD_DIM + 1) // 2
    column = tl.arange(0, HALF)[None, :]
    inside = (rows < length)[:, None]
    place = base + rows[:, None] * stride + column
    tl.store(place, first, mask=inside & (column < FIRST))
    tl.store(place + FIRST, second, mask=inside & (column + FIRST < HEAD_DIM))
