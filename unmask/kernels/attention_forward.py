"""Packed attention in Triton, forward; here the sentences that are longer than one tile.

Their softmax is taken in one pass over the keys (Milakov and Gimelshein, arXiv 1805.02867; Dao et
al., arXiv 2205.14135): a running maximum and sum per query, in float32, in units of log 2. Their
combination is kept for the backward pass.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_halves import turn_long
from unmask.kernels.attention_pack import Pack
from unmask.kernels.attention_short import forward_short
from unmask.kernels.attention_tiles import (
    UNALIGNED,
    VARYING,
    count_tiles,
    find_tile,
    key_range,
    launch_tiles,
    load_inner_rows,
    load_rows,
    scores_of,
    store_rows,
    tiles_of,
    visible,
)
from unmask.kernels.interpreter import narrow, product
from unmask.kernels.launching import Launcher


def forward(query: Tensor, key: Tensor, value: Tensor, pack: Pack) -> tuple[Tensor, Tensor]:
    """Attention of one pack.

    Args:
        query: [tokens, heads, head_dim], last axis dense.
        key: [tokens, kv_heads, head_dim], last axis dense.
        value: [tokens, kv_heads, head_dim], last axis dense.
        pack: see `attention_pack.describe`.

    Returns:
        [tokens, heads, head_dim], and float32 [heads, tokens]: log2 of the sum of each row.
    """
    num_tokens, num_heads, head_dim = query.shape
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    log_sum = torch.empty(num_heads, num_tokens, dtype=torch.float32, device=query.device)
    if pack.above:
        forward_short(query, key, value, output, log_sum, pack)
    if pack.may_have_long:
        tensors = (*turn_long(query, key, pack), value, output)
        tile = tiles_of(head_dim, query.dtype).forward
        launch_tiles(_launch_forward, tile, tile.block_query, num_heads, tensors, (log_sum,), pack)
    return output, log_sum


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _forward_kernel(
    query, key, value, output, log_sum,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, output_stride, output_head_stride,
    num_tokens, above, num_heads,
    cu_seqlens, causal, num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, EMULATE: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Queries [BLOCK_Q] of one sentence and head at a time, against all keys that they may see."""
    total = count_tiles(cu_seqlens, num_sentences, above, BLOCK_Q, SEARCH_BLOCK)
    for item in range(tl.program_id(0), total * num_heads, tl.num_programs(0)):
        # The last tile of a causal sentence sees the most keys: it goes first.
        tile = total - 1 - item // num_heads
        sentence, begin, length, tile_begin = find_tile(
            cu_seqlens, num_sentences, above, tile, BLOCK_Q, SEARCH_BLOCK
        )
        head = (item % num_heads).to(tl.int64)
        is_causal = tl.load(causal + sentence * causal_stride) != 0
        keys = key + begin * key_stride + head // GROUP * key_head_stride
        values = value + begin * value_stride + head // GROUP * value_head_stride

        q_index = tile_begin + tl.arange(0, BLOCK_Q)
        place = query + begin * query_stride + head * query_head_stride
        q = load_rows(place, query_stride, q_index, length, HEAD_DIM, WIDTH)
        largest = tl.full((BLOCK_Q,), -float("inf"), tl.float32)
        row_sum = tl.zeros((BLOCK_Q,), tl.float32)
        result = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
        low, middle, high = key_range(
            tile_begin, length, is_causal, window, BLOCK_Q, BLOCK_K, HAS_WINDOW
        )
        if not HAS_WINDOW:
            largest, row_sum, result = _attend(
                q, q_index, keys, key_stride, values, value_stride, largest, row_sum, result,
                low, middle, length, is_causal, inner_scale, outer_scale, window,
                HEAD_DIM, WIDTH, False, SOFTCAP, EMULATE, BLOCK_K, False,
            )  # fmt: skip
        largest, row_sum, result = _attend(
            q, q_index, keys, key_stride, values, value_stride, largest, row_sum, result,
            middle, high, length, is_causal, inner_scale, outer_scale, window,
            HEAD_DIM, WIDTH, HAS_WINDOW, SOFTCAP, EMULATE, BLOCK_K, True,
        )  # fmt: skip
        inside = q_index < length
        row_sum = tl.where(inside, row_sum, 1.0)
        place = output + begin * output_stride + head * output_head_stride
        result = result * (1.0 / row_sum)[:, None]
        store_rows(place, output_stride, q_index, length, result, HEAD_DIM, WIDTH, EMULATE)
        place = log_sum + head * num_tokens + begin + q_index
        tl.store(place, largest + tl.log2(row_sum), mask=inside)


_launch_forward = Launcher(_forward_kernel)


@triton.jit
def _attend(
    q, q_index, keys, key_stride, values, value_stride, largest, row_sum, result,
    low, high, length, is_causal, inner_scale, outer_scale, window,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    EMULATE: tl.constexpr, BLOCK_K: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Running maximum, sum and result after the keys from `low` on, all of them seen if unmasked.

    `row_sum` counts weights relative to the maximum so far.
    """
    for start in range(low, high, BLOCK_K):
        k_index = start + tl.arange(0, BLOCK_K)
        if MASKED:
            k = load_rows(keys, key_stride, k_index, length, HEAD_DIM, WIDTH)
            v = load_rows(values, value_stride, k_index, length, HEAD_DIM, WIDTH)
        else:
            k = load_inner_rows(keys, key_stride, k_index, HEAD_DIM, WIDTH)
            v = load_inner_rows(values, value_stride, k_index, HEAD_DIM, WIDTH)
        scores = scores_of(product(q, tl.trans(k), EMULATE), inner_scale, outer_scale, SOFTCAP)
        if MASKED:
            seen = visible(
                q_index[:, None], k_index[None, :], length, is_causal, window, HAS_WINDOW
            )
            scores = tl.where(seen, scores, -float("inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        reference = new_largest
        if MASKED:
            # A row that has seen no key yet keeps -inf, which must not be subtracted from itself.
            reference = tl.where(new_largest == -float("inf"), 0.0, new_largest)
        weights = tl.exp2(scores - reference[:, None])
        decay = tl.exp2(largest - reference)
        row_sum = row_sum * decay + tl.sum(weights, 1)
        result = result * decay[:, None]
        result += product(narrow(weights, q.dtype, EMULATE), v, EMULATE)
        largest = new_largest
    return largest, row_sum, result
