"""Packed attention of short sentences in Triton, forward: a whole sentence is one tile.

A program takes one sentence and all heads that share its keys: keys, values and angles are read
once, and a row's softmax is taken in one piece. Sentences of more tokens than a tile has are
`attention_forward`'s. Wide heads have tiles of two sizes, told apart by a sentence's own length;
every launch has a program for every sentence, and those of another size return at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from unmask.kernels.attention_halves import load_angles, load_halves, turned
from unmask.kernels.attention_pack import SHORT, Pack
from unmask.kernels.attention_tiles import (
    UNALIGNED,
    VARYING,
    load_rows,
    scores_of,
    store_rows,
    visible,
)
from unmask.kernels.interpreter import narrow, product
from unmask.kernels.launching import Launcher, Options, dense_key, operands


@dataclass(frozen=True)
class ShortClass:
    """Sentences of more than `above` and at most `block` tokens, and how they are compiled.

    `forward` and `backward` are warps of a program and stages of its loop over heads.
    """

    above: int
    block: int
    forward: Options
    backward: Options


WIDE_HEADS = (
    ShortClass(0, 32, forward=Options(4, 2), backward=Options(4, 1)),
    ShortClass(32, SHORT, forward=Options(4, 2), backward=Options(8, 2)),
)
"""Of more than 64 features: two launches, since a tile fits registers only if it is small."""
NARROW_HEADS = (ShortClass(0, SHORT, forward=Options(4, 2), backward=Options(4, 1)),)


def short_classes(max_seqlen: int, head_dim: int) -> list[ShortClass]:
    """The launches that a pack may need."""
    classes = WIDE_HEADS if head_dim > 64 else NARROW_HEADS
    return [short for short in classes if short.above < max_seqlen]


def forward_short(
    query: Tensor, key: Tensor, value: Tensor, output: Tensor, log_sum: Tensor, pack: Pack
) -> None:
    """Write output and row sums of all sentences up to `SHORT`; see `attention_forward.forward`."""
    classes = short_classes(pack.max_seqlen, query.shape[2])
    layouts = [(short, short.forward) for short in classes]
    launch_short(_launch_forward, layouts, (query, key, value, output), log_sum, pack)


def launch_short(
    launch: Launcher,
    layouts: list[tuple[ShortClass, Options]],
    tensors: tuple[Tensor, ...],
    log_sum: Tensor,
    pack: Pack,
    *numbers: float,
) -> None:
    """One launch for each class of sentences.

    Args:
        launch: of a kernel of short sentences.
        layouts: the classes, and what the kernel is compiled with for each.
        tensors: of heads: the query, the key and others.
        log_sum: of the rows.
        pack: see `attention_pack.describe`.
        *numbers: what only this kernel takes.
    """
    every, strides, kinds = operands(*tensors)
    num_tokens, kv_heads, _ = every[1].shape
    grid = (pack.num_sentences, kv_heads, 1)
    launch_key = (kinds, dense_key(log_sum), pack.key)
    tail = (*numbers, pack.cos, pack.sin, *pack.arguments)
    constants = (*pack.constants, pack.half, pack.cos is not None)
    for short, options in layouts:
        arguments = (*every, log_sum, *strides, num_tokens, short.above, *tail)
        launch(grid, launch_key, arguments, (*constants, short.block), options)


@triton.jit(do_not_specialize=VARYING, do_not_specialize_on_alignment=UNALIGNED)
def _short_forward_kernel(
    query, key, value, output, log_sum,
    query_stride, query_head_stride, key_stride, key_head_stride,
    value_stride, value_head_stride, output_stride, output_head_stride,
    num_tokens, above, cos, sin,
    cu_seqlens, causal, num_sentences, causal_stride, inner_scale, outer_scale, window,
    GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    HAS_WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, EMULATE: tl.constexpr,
    HALF: tl.constexpr, ROTARY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A sentence of up to BLOCK tokens, all heads that share one head of keys."""
    sentence = tl.program_id(0)
    begin = tl.load(cu_seqlens + sentence).to(tl.int64)
    length = (tl.load(cu_seqlens + sentence + 1) - begin).to(tl.int32)
    if (length <= above) | (length > BLOCK):
        return
    kv_head = tl.program_id(1).to(tl.int64)
    is_causal = tl.load(causal + sentence * causal_stride) != 0
    query += begin * query_stride
    key += begin * key_stride + kv_head * key_head_stride
    value += begin * value_stride + kv_head * value_head_stride
    output += begin * output_stride
    dtype = query.dtype.element_ty

    index = tl.arange(0, BLOCK)
    inside = index < length
    seen = visible(index[:, None], index[None, :], length, is_causal, window, HAS_WINDOW)
    k1, k2 = load_halves(key, key_stride, index, length, HEAD_DIM, HALF)
    v = load_rows(value, value_stride, index, length, HEAD_DIM, WIDTH)
    if ROTARY:
        c, s = load_angles(cos, sin, index, length, HEAD_DIM, HALF)
        k1, k2 = turned(k1, k2, c, s, dtype, EMULATE)
    for member in range(0, GROUP):
        head = kv_head * GROUP + member
        q1, q2 = load_halves(
            query + head * query_head_stride, query_stride, index, length, HEAD_DIM, HALF
        )
        if ROTARY:
            q1, q2 = turned(q1, q2, c, s, dtype, EMULATE)
        products = product(q1, tl.trans(k1), EMULATE) + product(q2, tl.trans(k2), EMULATE)
        scores = scores_of(products, inner_scale, outer_scale, SOFTCAP)
        scores = tl.where(seen, scores, -float("inf"))
        largest = tl.max(scores, 1)
        # A row beyond the sentence sees no key: -inf, which must not be subtracted from itself.
        reference = tl.where(largest == -float("inf"), 0.0, largest)
        weights = tl.exp2(scores - reference[:, None])
        total = tl.where(inside, tl.sum(weights, 1), 1.0)
        result = product(narrow(weights, dtype, EMULATE), v, EMULATE) * (1.0 / total)[:, None]
        store_rows(
            output + head * output_head_stride, output_stride, index, length, result,
            HEAD_DIM, WIDTH, EMULATE,
        )  # fmt: skip
        row_sums = log_sum + head * num_tokens + begin
        tl.store(row_sums + index, largest + tl.log2(total), mask=inside)


_launch_forward = Launcher(_short_forward_kernel)
