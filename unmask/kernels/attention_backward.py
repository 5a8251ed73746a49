"""Packed attention in Triton, backward: a kernel for queries, one for keys and values.

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
from torch.autograd.function import once_differentiable

from unmask.kernels.attention_forward import VARYING, describe, forward
from unmask.kernels.attention_tiles import (
    find_tile,
    key_range,
    length_classes,
    load_halves,
    load_rows,
    num_slots,
    query_range,
    scores_of,
    store_halves,
    visible,
    with_unit_stride,
)
from unmask.kernels.interpreter import narrow, product


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
        ctx.save_for_backward(query, key, value, output, log_sum)
        ctx.pack = pack
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sum = ctx.saved_tensors
        grads = backward(query, key, value, output, with_unit_stride(grad), log_sum, ctx.pack)
        return (*grads, *[None] * 8)


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    grad: Tensor,
    log_sum: Tensor,
    pack: dict[str, Any],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value from that of the output, shapes as in `forward`."""
    num_tokens, num_heads, head_dim = query.shape
    num_sentences = pack["shared"]["num_sentences"]
    delta = torch.empty_like(log_sum)
    grad_query, grad_key, grad_value = (torch.empty_like(x) for x in (query, key, value))
    tensors = (query, key, value, grad, log_sum, delta)
    strides = [x.stride(axis) for x in tensors[:4] for axis in (0, 1)]
    for lengths in length_classes(head_dim, query.dtype, pack["max_seqlen"]):
        common = (*strides, num_tokens, lengths.above, lengths.up_to, pack["scale"])
        tile = lengths.grad_query
        slots = num_slots(num_tokens, num_sentences, tile.block_query)
        _grad_query_kernel[(slots, num_heads)](
            *tensors, output, grad_query,
            output.stride(0), output.stride(1), grad_query.stride(0), grad_query.stride(1),
            *common, **pack["shared"], **tile.options(),
        )  # fmt: skip
        tile = lengths.grad_key
        slots = num_slots(num_tokens, num_sentences, tile.block_key)
        _grad_key_kernel[(slots, key.shape[1])](
            *tensors, grad_key, grad_value,
            grad_key.stride(0), grad_key.stride(1), grad_value.stride(0), grad_value.stride(1),
            *common, **pack["shared"], **tile.options(),
        )  # fmt: skip
    return grad_query, grad_key, grad_value


@triton.jit(do_not_specialize=VARYING)
def _grad_query_kernel(
    query, key, value, grad, log_sum, delta, output, grad_query,
    output_stride, output_head_stride, grad_query_stride, grad_query_head_stride,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, grad_stride, grad_head_stride,
    num_tokens, above, up_to, scale,
    cu_seqlens, causal, cos, sin,
    num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, ROTARY: tl.constexpr, HAS_WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr, EMULATE: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradient of queries [BLOCK_Q]; leaves `delta`, the sum of grad * output, for the keys."""
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
    grad += begin * grad_stride + head * grad_head_stride
    output += begin * output_stride + head * output_head_stride
    grad_query += begin * grad_query_stride + head * grad_query_head_stride
    row_sums = head * num_tokens + begin
    dtype = query.dtype.element_ty

    q_index = tile_begin + tl.arange(0, BLOCK_Q)
    inside = q_index < length
    q1, q2 = load_halves(
        query, query_stride, q_index, length, cos, sin, HEAD_DIM, HALF, ROTARY, EMULATE
    )
    do = load_rows(grad, grad_stride, q_index, length, HEAD_DIM, WIDTH)
    o = load_rows(output, output_stride, q_index, length, HEAD_DIM, WIDTH)
    along = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(delta + row_sums + q_index, along, mask=inside)
    row_sum = tl.load(log_sum + row_sums + q_index, mask=inside, other=0.0)
    dq1 = tl.zeros((BLOCK_Q, HALF), tl.float32)
    dq2 = tl.zeros((BLOCK_Q, HALF), tl.float32)
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
        weights = tl.where(seen, tl.exp2(scores - row_sum[:, None]), 0.0)
        ds = weights * (product(do, tl.trans(v), EMULATE) - along[:, None])
        if SOFTCAP:
            capped = scores / outer_scale
            ds = ds * (1.0 - capped * capped)
        ds = narrow(ds, dtype, EMULATE)
        dq1 += product(ds, k1, EMULATE)
        dq2 += product(ds, k2, EMULATE)
    store_halves(
        grad_query, grad_query_stride, q_index, length, dq1 * scale, dq2 * scale, cos, sin,
        HEAD_DIM, HALF, ROTARY, EMULATE,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def _grad_key_kernel(
    query, key, value, grad, log_sum, delta, grad_key, grad_value,
    grad_key_stride, grad_key_head_stride, grad_value_stride, grad_value_head_stride,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, grad_stride, grad_head_stride,
    num_tokens, above, up_to, scale,
    cu_seqlens, causal, cos, sin,
    num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, HALF: tl.constexpr, WIDTH: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr, ROTARY: tl.constexpr, HAS_WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr, EMULATE: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values [BLOCK_K] over all heads of a group; `_t`: keys by queries."""
    sentence, begin, length, tile_begin = find_tile(
        cu_seqlens, num_sentences, above, up_to, BLOCK_K, SEARCH_BLOCK
    )
    if tile_begin >= length:
        return
    kv_head = tl.program_id(1).to(tl.int64)
    is_causal = tl.load(causal + sentence * causal_stride) != 0
    key += begin * key_stride + kv_head * key_head_stride
    value += begin * value_stride + kv_head * value_head_stride
    grad_key += begin * grad_key_stride + kv_head * grad_key_head_stride
    grad_value += begin * grad_value_stride + kv_head * grad_value_head_stride
    dtype = query.dtype.element_ty

    k_index = tile_begin + tl.arange(0, BLOCK_K)
    k1, k2 = load_halves(
        key, key_stride, k_index, length, cos, sin, HEAD_DIM, HALF, ROTARY, EMULATE
    )
    v = load_rows(value, value_stride, k_index, length, HEAD_DIM, WIDTH)
    dk1 = tl.zeros((BLOCK_K, HALF), tl.float32)
    dk2 = tl.zeros((BLOCK_K, HALF), tl.float32)
    dv = tl.zeros((BLOCK_K, WIDTH), tl.float32)
    low, high = query_range(tile_begin, length, is_causal, window, BLOCK_Q, BLOCK_K, HAS_WINDOW)
    for member in range(0, GROUP):
        head = kv_head * GROUP + member
        q_base = query + begin * query_stride + head * query_head_stride
        grad_base = grad + begin * grad_stride + head * grad_head_stride
        row_sums = head * num_tokens + begin
        for start in range(low, high, BLOCK_Q):
            q_index = start + tl.arange(0, BLOCK_Q)
            inside = q_index < length
            q1, q2 = load_halves(
                q_base, query_stride, q_index, length, cos, sin, HEAD_DIM, HALF, ROTARY, EMULATE
            )
            do = load_rows(grad_base, grad_stride, q_index, length, HEAD_DIM, WIDTH)
            row_sum = tl.load(log_sum + row_sums + q_index, mask=inside, other=0.0)
            along = tl.load(delta + row_sums + q_index, mask=inside, other=0.0)
            products_t = product(k1, tl.trans(q1), EMULATE) + product(k2, tl.trans(q2), EMULATE)
            scores_t = scores_of(products_t, inner_scale, outer_scale, SOFTCAP)
            seen_t = visible(
                q_index[None, :], k_index[:, None], length, is_causal, window, HAS_WINDOW
            )
            weights_t = tl.where(seen_t, tl.exp2(scores_t - row_sum[None, :]), 0.0)
            dv += product(narrow(weights_t, dtype, EMULATE), do, EMULATE)
            ds_t = weights_t * (product(v, tl.trans(do), EMULATE) - along[None, :])
            if SOFTCAP:
                capped_t = scores_t / outer_scale
                ds_t = ds_t * (1.0 - capped_t * capped_t)
            ds_t = narrow(ds_t, dtype, EMULATE)
            dk1 += product(ds_t, q1, EMULATE)
            dk2 += product(ds_t, q2, EMULATE)
    store_halves(
        grad_key, grad_key_stride, k_index, length, dk1 * scale, dk2 * scale, cos, sin,
        HEAD_DIM, HALF, ROTARY, EMULATE,
    )  # fmt: skip
    column = tl.arange(0, WIDTH)[None, :]
    tl.store(
        grad_value + k_index[:, None] * grad_value_stride + column,
        narrow(dv, dtype, EMULATE),
        mask=(k_index < length)[:, None] & (column < HEAD_DIM),
    )
