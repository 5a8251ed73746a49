"""Packed attention in Triton, backward; here the sentences that are longer than one tile.

Nothing is added to memory by two programs, so gradients are the same bits in every run: the first
kernel owns tiles of queries, the second tiles of keys with all heads that share them. The weights
are computed again from the row sums that the forward pass kept.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_forward import forward
from unmask.kernels.attention_halves import turn_long, turn_long_back
from unmask.kernels.attention_pack import Pack, describe, with_unit_stride
from unmask.kernels.attention_short_backward import backward_short
from unmask.kernels.attention_tiles import (
    UNALIGNED,
    VARYING,
    count_tiles,
    find_tile,
    key_range,
    launch_tiles,
    load_inner_rows,
    load_rows,
    query_range,
    scores_of,
    slope_of,
    store_rows,
    tiles_of,
    visible,
)
from unmask.kernels.autocast import differentiable_once
from unmask.kernels.interpreter import narrow, product
from unmask.kernels.launching import Launcher


def varlen_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: Tensor,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
) -> Tensor:
    """Shapes and meaning as in `unmask.kernels.varlen_attention`; cos and sin get no gradient."""
    return _VarlenAttention.apply(
        query, key, value, cu_seqlens, max_seqlen, causal, scale, window, softcap, cos, sin
    )


class _VarlenAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *call: Any) -> Tensor:
        query, key, value = (with_unit_stride(x) for x in (query, key, value))
        *rest, cos, sin = call
        tables = (None if table is None else table.contiguous() for table in (cos, sin))
        pack = describe(query, key, *rest, *tables)
        output, log_sum = forward(query, key, value, pack)
        kept = output if pack.may_have_long else None  # short sentences do without
        ctx.save_for_backward(query, key, value, log_sum, kept)
        ctx.pack = pack
        return output

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, log_sum, output = ctx.saved_tensors
        grads = backward((*tensors, with_unit_stride(grad)), log_sum, output, ctx.pack)
        return (*grads, *[None] * 8)


def backward(
    tensors: tuple[Tensor, ...], log_sum: Tensor, output: Tensor | None, pack: Pack
) -> tuple[Tensor, ...]:
    """Gradients of query, key and value.

    Args:
        tensors: query, key, value and the gradient of the output, last axis dense.
        log_sum: from the forward pass.
        output: from the forward pass; None where the pack has no long sentence.
        pack: see `attention_pack.describe`.

    Returns:
        In the shapes of query, key and value.
    """
    gradients = tuple(torch.empty_like(x) for x in tensors[:3])
    if pack.above:
        backward_short(tensors, gradients, log_sum, pack)
    if output is not None:
        _backward_long(tensors, gradients, log_sum, output, pack)
    return gradients


def _backward_long(
    tensors: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...],
    log_sum: Tensor,
    output: Tensor,
    pack: Pack,
) -> None:
    query, key, value, grad = tensors
    grad_query, grad_key, grad_value = gradients
    heads, head_dim = query.shape[1:]
    kv_heads = key.shape[1]
    tiles = tiles_of(head_dim, query.dtype)
    sums = (log_sum, torch.empty_like(log_sum))
    tensors = (*turn_long(query, key, pack), value, grad)
    every, tile = (*tensors, output, grad_query), tiles.grad_query
    launch_tiles(_launch_grad_query, tile, tile.block_query, heads, every, sums, pack, pack.scale)
    every, tile = (*tensors, grad_key, grad_value), tiles.grad_key
    launch_tiles(_launch_grad_key, tile, tile.block_key, kv_heads, every, sums, pack, pack.scale)
    turn_long_back(grad_query, grad_key, pack)


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _grad_query_kernel(
    query, key, value, grad, output, grad_query, log_sum, delta,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, grad_stride, grad_head_stride,
    output_stride, output_head_stride, grad_query_stride, grad_query_head_stride,
    num_tokens, above, num_heads, scale,
    cu_seqlens, causal, num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, EMULATE: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradients of queries [BLOCK_Q]; leaves `delta`, the sum of grad * output, for the keys."""
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
        inside = q_index < length
        place = query + begin * query_stride + head * query_head_stride
        q = load_rows(place, query_stride, q_index, length, HEAD_DIM, WIDTH)
        place = grad + begin * grad_stride + head * grad_head_stride
        do = load_rows(place, grad_stride, q_index, length, HEAD_DIM, WIDTH)
        place = output + begin * output_stride + head * output_head_stride
        o = load_rows(place, output_stride, q_index, length, HEAD_DIM, WIDTH)
        along = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
        row_sums = head * num_tokens + begin + q_index
        tl.store(delta + row_sums, along, mask=inside)
        row_sum = tl.load(log_sum + row_sums, mask=inside, other=0.0)
        dq = tl.zeros((BLOCK_Q, WIDTH), tl.float32)
        low, middle, high = key_range(
            tile_begin, length, is_causal, window, BLOCK_Q, BLOCK_K, HAS_WINDOW
        )
        if not HAS_WINDOW:
            dq = _from_keys(
                q, do, row_sum, along, q_index, keys, key_stride, values, value_stride, dq,
                low, middle, length, is_causal, inner_scale, outer_scale, window,
                HEAD_DIM, WIDTH, False, SOFTCAP, EMULATE, BLOCK_K, False,
            )  # fmt: skip
        dq = _from_keys(
            q, do, row_sum, along, q_index, keys, key_stride, values, value_stride, dq,
            middle, high, length, is_causal, inner_scale, outer_scale, window,
            HEAD_DIM, WIDTH, HAS_WINDOW, SOFTCAP, EMULATE, BLOCK_K, True,
        )  # fmt: skip
        place = grad_query + begin * grad_query_stride + head * grad_query_head_stride
        dq *= scale
        store_rows(place, grad_query_stride, q_index, length, dq, HEAD_DIM, WIDTH, EMULATE)


_launch_grad_query = Launcher(_grad_query_kernel)


@triton.jit
def _from_keys(
    q, do, row_sum, along, q_index, keys, key_stride, values, value_stride, dq,
    low, high, length, is_causal, inner_scale, outer_scale, window,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    EMULATE: tl.constexpr, BLOCK_K: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """`dq`, before scaling, with what the keys from `low` on add; all of them seen if unmasked."""
    for start in range(low, high, BLOCK_K):
        k_index = start + tl.arange(0, BLOCK_K)
        if MASKED:
            k = load_rows(keys, key_stride, k_index, length, HEAD_DIM, WIDTH)
            v = load_rows(values, value_stride, k_index, length, HEAD_DIM, WIDTH)
        else:
            k = load_inner_rows(keys, key_stride, k_index, HEAD_DIM, WIDTH)
            v = load_inner_rows(values, value_stride, k_index, HEAD_DIM, WIDTH)
        scores = scores_of(product(q, tl.trans(k), EMULATE), inner_scale, outer_scale, SOFTCAP)
        weights = tl.exp2(scores - row_sum[:, None])
        if MASKED:
            seen = visible(
                q_index[:, None], k_index[None, :], length, is_causal, window, HAS_WINDOW
            )
            weights = tl.where(seen, weights, 0.0)
        ds = weights * (product(do, tl.trans(v), EMULATE) - along[:, None])
        ds = ds * slope_of(scores, outer_scale, SOFTCAP)
        dq += product(narrow(ds, q.dtype, EMULATE), k, EMULATE)
    return dq


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _grad_key_kernel(
    query, key, value, grad, grad_key, grad_value, log_sum, delta,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, grad_stride, grad_head_stride,
    grad_key_stride, grad_key_head_stride, grad_value_stride, grad_value_head_stride,
    num_tokens, above, num_kv_heads, scale,
    cu_seqlens, causal, num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, EMULATE: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values [BLOCK_K] over all heads of a group."""
    total = count_tiles(cu_seqlens, num_sentences, above, BLOCK_K, SEARCH_BLOCK)
    for item in range(tl.program_id(0), total * num_kv_heads, tl.num_programs(0)):
        sentence, begin, length, tile_begin = find_tile(
            cu_seqlens, num_sentences, above, item // num_kv_heads, BLOCK_K, SEARCH_BLOCK
        )
        kv_head = (item % num_kv_heads).to(tl.int64)
        is_causal = tl.load(causal + sentence * causal_stride) != 0
        k_index = tile_begin + tl.arange(0, BLOCK_K)
        place = key + begin * key_stride + kv_head * key_head_stride
        k = load_rows(place, key_stride, k_index, length, HEAD_DIM, WIDTH)
        place = value + begin * value_stride + kv_head * value_head_stride
        v = load_rows(place, value_stride, k_index, length, HEAD_DIM, WIDTH)
        dk = tl.zeros((BLOCK_K, WIDTH), tl.float32)
        dv = tl.zeros((BLOCK_K, WIDTH), tl.float32)
        low, middle, high = query_range(
            tile_begin, length, is_causal, window, BLOCK_Q, BLOCK_K, HAS_WINDOW
        )
        for member in range(0, GROUP):
            head = kv_head * GROUP + member
            queries = query + begin * query_stride + head * query_head_stride
            grads = grad + begin * grad_stride + head * grad_head_stride
            row_sums = head * num_tokens + begin
            dk, dv = _from_queries(
                k, v, k_index, queries, query_stride, grads, grad_stride,
                log_sum + row_sums, delta + row_sums, dk, dv,
                low, middle, length, is_causal, inner_scale, outer_scale, window,
                HEAD_DIM, WIDTH, HAS_WINDOW, SOFTCAP, EMULATE, BLOCK_Q, True,
            )  # fmt: skip
            if not HAS_WINDOW:
                dk, dv = _from_queries(
                    k, v, k_index, queries, query_stride, grads, grad_stride,
                    log_sum + row_sums, delta + row_sums, dk, dv,
                    middle, high, length, is_causal, inner_scale, outer_scale, window,
                    HEAD_DIM, WIDTH, False, SOFTCAP, EMULATE, BLOCK_Q, False,
                )  # fmt: skip
        place = grad_key + begin * grad_key_stride + kv_head * grad_key_head_stride
        dk *= scale
        store_rows(place, grad_key_stride, k_index, length, dk, HEAD_DIM, WIDTH, EMULATE)
        place = grad_value + begin * grad_value_stride + kv_head * grad_value_head_stride
        store_rows(place, grad_value_stride, k_index, length, dv, HEAD_DIM, WIDTH, EMULATE)


_launch_grad_key = Launcher(_grad_key_kernel)


@triton.jit
def _from_queries(
    k, v, k_index, queries, query_stride, grads, grad_stride, log_sum, delta, dk, dv,
    low, high, length, is_causal, inner_scale, outer_scale, window,
    HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr, HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    EMULATE: tl.constexpr, BLOCK_Q: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """`dk`, before scaling, and `dv` with what the queries from `low` on add.

    `_t`: keys by queries. Unmasked, all queries see all keys of the sentence. Those beyond it are
    zeros, as is what comes from above for them, and add nothing; what keys beyond it get is not
    kept.
    """
    for start in range(low, high, BLOCK_Q):
        q_index = start + tl.arange(0, BLOCK_Q)
        inside = q_index < length
        q = load_rows(queries, query_stride, q_index, length, HEAD_DIM, WIDTH)
        do = load_rows(grads, grad_stride, q_index, length, HEAD_DIM, WIDTH)
        row_sum = tl.load(log_sum + q_index, mask=inside, other=0.0)
        along = tl.load(delta + q_index, mask=inside, other=0.0)
        scores_t = scores_of(product(k, tl.trans(q), EMULATE), inner_scale, outer_scale, SOFTCAP)
        weights_t = tl.exp2(scores_t - row_sum[None, :])
        if MASKED:
            seen_t = visible(
                q_index[None, :], k_index[:, None], length, is_causal, window, HAS_WINDOW
            )
            weights_t = tl.where(seen_t, weights_t, 0.0)
        dv += product(narrow(weights_t, k.dtype, EMULATE), do, EMULATE)
        ds_t = weights_t * (product(v, tl.trans(do), EMULATE) - along[None, :])
        ds_t = ds_t * slope_of(scores_t, outer_scale, SOFTCAP)
        dk += product(narrow(ds_t, k.dtype, EMULATE), q, EMULATE)
    return dk, dv
