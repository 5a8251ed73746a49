"""Packed attention in Triton, forward: one program per tile of queries and head.

The softmax is taken in one pass over the keys (Milakov and Gimelshein, arXiv 1805.02867; Dao et
al., arXiv 2205.14135): a running maximum and sum per query, in float32, in units of log 2. Their
combination is kept for the backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_tiles import (
    SEARCH_BLOCK,
    find_tile,
    key_range,
    length_classes,
    load_halves,
    load_rows,
    num_slots,
    padded_sizes,
    scores_of,
    visible,
)
from unmask.kernels.interpreter import must_emulate, narrow, product


def forward(
    query: Tensor, key: Tensor, value: Tensor, pack: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Attention of one pack.

    Args:
        query: [tokens, heads, head_dim], last axis dense.
        key: [tokens, kv_heads, head_dim], last axis dense.
        value: [tokens, kv_heads, head_dim], last axis dense.
        pack: see `describe`.

    Returns:
        [tokens, heads, head_dim], and float32 [heads, tokens]: log2 of the sum of each row.
    """
    num_tokens, num_heads, head_dim = query.shape
    output = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    log_sum = torch.empty(num_heads, num_tokens, dtype=torch.float32, device=query.device)
    for lengths in length_classes(head_dim, query.dtype, pack["max_seqlen"]):
        tile = lengths.forward
        slots = num_slots(num_tokens, pack["shared"]["num_sentences"], tile.block_query)
        _forward_kernel[(slots, num_heads)](
            query, key, value, output, log_sum,
            query.stride(0), query.stride(1), key.stride(0), key.stride(1),
            value.stride(0), value.stride(1), output.stride(0), output.stride(1),
            num_tokens, lengths.above, lengths.up_to,
            **pack["shared"], **tile.options(),
        )  # fmt: skip
    return output, log_sum


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
) -> dict[str, Any]:
    """What all kernels of a call are told besides their tensors and tiles."""
    head_dim = query.shape[2]
    half, width = padded_sizes(head_dim)
    inner = scale * math.log2(math.e) if softcap is None else scale / softcap
    shared = {
        "cu_seqlens": cu_seqlens,
        "causal": causal.view(torch.uint8),
        "cos": cos,
        "sin": sin,
        "num_sentences": len(causal),
        "causal_stride": causal.stride(0),
        "inner_scale": inner,
        "outer_scale": 1.0 if softcap is None else softcap * math.log2(math.e),
        "window": 0 if window is None else window,
        "GROUP": query.shape[1] // key.shape[1],
        "HEAD_DIM": head_dim,
        "HALF": half,
        "WIDTH": width,
        "SEARCH_BLOCK": SEARCH_BLOCK,
        "ROTARY": cos is not None,
        "HAS_WINDOW": window is not None,
        "SOFTCAP": softcap is not None,
        "EMULATE": must_emulate(query.dtype),
    }
    return {"shared": shared, "max_seqlen": max_seqlen, "scale": scale}


VARYING = ["num_tokens", "num_sentences", "above", "up_to", "causal_stride", "window"]
"""Numbers that Triton must not compile for: another program could round otherwise."""


@triton.jit(do_not_specialize=VARYING)
def _forward_kernel(
    query, key, value, output, log_sum,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, output_stride, output_head_stride,
    num_tokens, above, up_to,
    cu_seqlens, causal, cos, sin,
    num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, ROTARY: tl.constexpr, HAS_WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr, EMULATE: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Queries [BLOCK_Q] of one sentence and head against all keys that they may see."""
    sentence, begin, length, tile_begin = find_tile(
        cu_seqlens, num_sentences, above, up_to, BLOCK_Q, SEARCH_BLOCK
    )
    if tile_begin >= length:
        return
    head = tl.program_id(1).to(tl.int64)
    is_causal = tl.load(causal + sentence * causal_stride) != 0
    query += begin * query_stride + head * query_head_stride
    key += begin * key_stride + head // GROUP * key_head_stride
    value += begin * value_stride + head // GROUP * value_head_stride
    output += begin * output_stride + head * output_head_stride
    dtype = query.dtype.element_ty

    q_index = tile_begin + tl.arange(0, BLOCK_Q)
    q1, q2 = load_halves(
        query, query_stride, q_index, length, cos, sin, HEAD_DIM, HALF, ROTARY, EMULATE
    )
    largest = tl.full((BLOCK_Q,), -float("inf"), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    result = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
    low, high = key_range(tile_begin, length, is_causal, window, BLOCK_Q, BLOCK_K, HAS_WINDOW)
    for start in range(low, high, BLOCK_K):
        k_index = start + tl.arange(0, BLOCK_K)
        k1, k2 = load_halves(
            key, key_stride, k_index, length, cos, sin, HEAD_DIM, HALF, ROTARY, EMULATE
        )
        v = load_rows(value, value_stride, k_index, length, HEAD_DIM, WIDTH)
        products = product(q1, tl.trans(k1), EMULATE) + product(q2, tl.trans(k2), EMULATE)
        scores = scores_of(products, inner_scale, outer_scale, SOFTCAP)
        seen = visible(q_index[:, None], k_index[None, :], length, is_causal, window, HAS_WINDOW)
        scores = tl.where(seen, scores, -float("inf"))
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        # A row that has seen no key yet keeps -inf, which must not be subtracted from itself.
        reference = tl.where(new_largest == -float("inf"), 0.0, new_largest)
        weights = tl.exp2(scores - reference[:, None])
        decay = tl.exp2(largest - reference)
        total = total * decay + tl.sum(weights, 1)
        result = result * decay[:, None] + product(narrow(weights, dtype, EMULATE), v, EMULATE)
        largest = new_largest

    inside = q_index < length
    total = tl.where(inside, total, 1.0)
    column = tl.arange(0, WIDTH)[None, :]
    tl.store(
        output + q_index[:, None] * output_stride + column,
        narrow(result / total[:, None], dtype, EMULATE),
        mask=inside[:, None] & (column < HEAD_DIM),
    )
    tl.store(log_sum + head * num_tokens + begin + q_index, largest + tl.log2(total), mask=inside)
