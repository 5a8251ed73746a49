"""Packed attention of short sentences in Triton, backward: all three gradients in one launch.

The program of a sentence and a head of keys sees every pair of tokens, so gradients of keys and
values are summed in its registers, and nothing is added to memory by two programs. The forward
pass's output is not needed: what its softmax subtracts is a sum over the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_halves import load_angles, load_halves, store_halves, turned
from unmask.kernels.attention_pack import Pack
from unmask.kernels.attention_short import launch_short, short_classes
from unmask.kernels.attention_tiles import (
    UNALIGNED,
    VARYING,
    load_rows,
    scores_of,
    slope_of,
    store_rows,
    visible,
)
from unmask.kernels.interpreter import narrow, product
from unmask.kernels.launching import Launcher


def backward_short(
    tensors: tuple[Tensor, ...], gradients: tuple[Tensor, ...], log_sum: Tensor, pack: Pack
) -> None:
    """Write gradients of all sentences up to `attention_short.SHORT`.

    Args:
        tensors: query, key, value and the gradient of the output.
        gradients: of query, key and value, to be written.
        log_sum: from the forward pass.
        pack: see `attention_forward.describe`.
    """
    classes = short_classes(pack.max_seqlen, tensors[0].shape[2])
    layouts = [(short, short.backward) for short in classes]
    launch_short(_launch_backward, layouts, (*tensors, *gradients), log_sum, pack, pack.scale)


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _short_backward_kernel(
    query, key, value, grad, grad_query, grad_key, grad_value, log_sum,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, grad_stride, grad_head_stride,
    grad_query_stride, grad_query_head_stride, grad_key_stride, grad_key_head_stride,
    grad_value_stride, grad_value_head_stride,
    num_tokens, above, scale, cos, sin,
    cu_seqlens, causal, num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, EMULATE: tl.constexpr,
    HALF: tl.constexpr, ROTARY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A sentence of up to BLOCK tokens, all heads of a group; `_t`: keys by queries."""
    sentence = tl.program_id(0)
    begin = tl.load(cu_seqlens + sentence).to(tl.int64)
    length = (tl.load(cu_seqlens + sentence + 1) - begin).to(tl.int32)
    if (length <= above) | (length > BLOCK):
        return
    kv_head = tl.program_id(1).to(tl.int64)
    is_causal = tl.load(causal + sentence * causal_stride) != 0
    query += begin * query_stride
    grad += begin * grad_stride
    grad_query += begin * grad_query_stride
    key += begin * key_stride + kv_head * key_head_stride
    value += begin * value_stride + kv_head * value_head_stride
    grad_key += begin * grad_key_stride + kv_head * grad_key_head_stride
    grad_value += begin * grad_value_stride + kv_head * grad_value_head_stride
    dtype = query.dtype.element_ty

    index = tl.arange(0, BLOCK)
    inside = index < length
    seen_t = visible(index[None, :], index[:, None], length, is_causal, window, HAS_WINDOW)
    k1, k2 = load_halves(key, key_stride, index, length, HEAD_DIM, HALF)
    v = load_rows(value, value_stride, index, length, HEAD_DIM, WIDTH)
    if ROTARY:
        c, s = load_angles(cos, sin, index, length, HEAD_DIM, HALF)
        k1, k2 = turned(k1, k2, c, s, dtype, EMULATE)
    dk1 = tl.zeros((BLOCK, HALF), tl.float32)
    dk2 = tl.zeros((BLOCK, HALF), tl.float32)
    dv = tl.zeros((BLOCK, WIDTH), tl.float32)
    for member in range(0, GROUP):
        head = kv_head * GROUP + member
        q1, q2 = load_halves(
            query + head * query_head_stride, query_stride, index, length, HEAD_DIM, HALF
        )
        if ROTARY:
            q1, q2 = turned(q1, q2, c, s, dtype, EMULATE)
        do = load_rows(grad + head * grad_head_stride, grad_stride, index, length, HEAD_DIM, WIDTH)
        row_sums = log_sum + head * num_tokens + begin
        row_sum = tl.load(row_sums + index, mask=inside, other=0.0)
        products_t = product(k1, tl.trans(q1), EMULATE) + product(k2, tl.trans(q2), EMULATE)
        scores_t = scores_of(products_t, inner_scale, outer_scale, SOFTCAP)
        weights_t = tl.where(seen_t, tl.exp2(scores_t - row_sum[None, :]), 0.0)
        dv += product(narrow(weights_t, dtype, EMULATE), do, EMULATE)
        dp_t = product(v, tl.trans(do), EMULATE)
        ds_t = weights_t * (dp_t - tl.sum(weights_t * dp_t, 0)[None, :])
        ds_t = narrow(ds_t * slope_of(scores_t, outer_scale, SOFTCAP), dtype, EMULATE)
        dk1 += product(ds_t, q1, EMULATE)
        dk2 += product(ds_t, q2, EMULATE)
        ds = tl.trans(ds_t)
        dq1 = product(ds, k1, EMULATE) * scale
        dq2 = product(ds, k2, EMULATE) * scale
        if ROTARY:
            dq1, dq2 = turned(dq1, dq2, c, -s, dtype, EMULATE)
        else:
            dq1, dq2 = narrow(dq1, dtype, EMULATE), narrow(dq2, dtype, EMULATE)
        place = grad_query + head * grad_query_head_stride
        store_halves(place, grad_query_stride, index, length, dq1, dq2, HEAD_DIM, HALF)
    dk1, dk2 = dk1 * scale, dk2 * scale
    if ROTARY:
        dk1, dk2 = turned(dk1, dk2, c, -s, dtype, EMULATE)
    else:
        dk1, dk2 = narrow(dk1, dtype, EMULATE), narrow(dk2, dtype, EMULATE)
    store_halves(grad_key, grad_key_stride, index, length, dk1, dk2, HEAD_DIM, HALF)
    store_rows(grad_value, grad_value_stride, index, length, dv, HEAD_DIM, WIDTH, EMULATE)


_launch_backward = Launcher(_short_backward_kernel)
