"""The public tensor operations: packed attention, adapters of many runs, rows, 4-bit weights.

Each picks an implementation by device; each implementation has the signature of the reference
beside it, and a test holds them to that. Nothing here knows a model, a tokenizer or a file. Inside
`torch.autocast` they compute in the dtypes that they are given.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

from unmask.kernels import rows_reference as _rows
from unmask.kernels.attention_rectangles import varlen_attention as _attention_rectangles
from unmask.kernels.autocast import without_autocast as _without_autocast
from unmask.kernels.dropout import Dropout
from unmask.kernels.lora_batched import dropped as _dropped_by_mask
from unmask.kernels.lora_batched import grouped_linear as _linear_batched
from unmask.kernels.lora_batched import grouped_lora as _lora_batched
from unmask.kernels.nf4_reference import dequantize_nf4 as _dequantize_by_table


@_without_autocast
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
    """Attention within each packed sentence, causal or not sentence by sentence.

    Args:
        query: [tokens, heads, head_dim]; rotary embedding already applied unless `cos` is given.
        key: [tokens, kv_heads, head_dim]; `heads` is a multiple of `kv_heads`.
        value: [tokens, kv_heads, head_dim].
        cu_seqlens: int32 [sentences + 1], cumulative lengths from 0 to `tokens`.
        max_seqlen: the longest sentence.
        causal: bool [sentences]; True: a token sees itself and what is to its left.
        scale: factor on the dot products.
        window: a token sees others at a distance below `window`, to the left and (where not
            causal) to the right; None means no limit. Dropping the causal mask thus leaves what
            a token sees to its left unchanged. transformers' own bidirectional window includes
            the distance `window` itself.
        softcap: scores become `softcap * tanh(scores / softcap)` (Gemma 2); None means no cap.
        cos: [positions, head_dim / 2], at least `max_seqlen` rows: queries and keys are first
            turned by the angle of their place in their sentence, the pair (i, i + head_dim / 2)
            by column i. None leaves them as they are. A constant: it gets no gradient.
        sin: given with `cos`, of the same shape.

    Returns:
        [tokens, heads, head_dim] in the dtype of `query`.

    Raises:
        ValueError: when cos and sin do not fit each other or the heads.
    """
    _check_rotary(cos, sin, max_seqlen, query.shape[2])
    implementation = _attention_rectangles
    if _suits_triton(query, key, value) and query.shape[2] <= 256:
        from unmask.kernels.attention_backward import varlen_attention as implementation
    with torch.cuda.device_of(query):  # Triton launches on the current device
        return implementation(
            query, key, value, cu_seqlens, max_seqlen, causal, scale, window, softcap, cos, sin
        )


@_without_autocast
def grouped_lora(
    base: Tensor,
    x: Tensor,
    lora_a: Tensor,
    lora_b: Tensor,
    run_offsets: Tensor,
    scale: float,
    dropout: Dropout | None = None,
) -> Tensor:
    """A frozen layer's output plus a low-rank update with one pair of matrices per run.

    `base + scale * drop(x) @ A[run].T @ B[run].T`; matrices are taken in the dtype of `x`.

    Args:
        base: [tokens, out_features], what the frozen layer made of `x`; in the dtype of `x`.
        x: [tokens, in_features], tokens sorted by run.
        lora_a: [runs, rank, in_features].
        lora_b: [runs, out_features, rank].
        run_offsets: int32 [runs + 1], where each run's tokens begin. On the CPU; or on the device,
            which is then not waited for.
        scale: factor on the update.
        dropout: of elements of `x` on their way to the update; None drops nothing.

    Returns:
        [tokens, out_features]. Differentiable once.
    """
    implementation = _lora_batched
    if _suits_triton(base, x):
        from unmask.kernels.lora_triton import grouped_lora as implementation
    with torch.cuda.device_of(x):
        return implementation(base, x, lora_a, lora_b, run_offsets, scale, dropout)


@_without_autocast
def grouped_linear(
    x: Tensor, weight: Tensor, run_offsets: Tensor, bias: Tensor | None = None
) -> Tensor:
    """One linear layer per run: `x @ weight[run].T + bias[run]`.

    Args:
        x: [tokens, in_features], tokens sorted by run.
        weight: [runs, out_features, in_features].
        run_offsets: as in `grouped_lora`.
        bias: [runs, out_features]; None means zero.

    Returns:
        [tokens, out_features]. Differentiable once.
    """
    implementation = _linear_batched
    if _suits_triton(x, weight):
        from unmask.kernels.lora_triton import grouped_linear as implementation
    with torch.cuda.device_of(x):
        return implementation(x, weight, run_offsets, bias)


@_without_autocast
def dropped(x: Tensor, run_offsets: Tensor, dropout: Dropout) -> Tensor:
    """Elements dropped by the mask of their run, the others scaled up.

    Args:
        x: [tokens, features], tokens sorted by run.
        run_offsets: as in `grouped_lora`.
        dropout: probability, and a key for each run.

    Returns:
        As `x`. Differentiable once.
    """
    implementation = _dropped_by_mask
    if _suits_triton(x):
        from unmask.kernels.lora_triton import dropped as implementation
    with torch.cuda.device_of(x):
        return implementation(x, run_offsets, dropout)


@_without_autocast
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Every token over the root of its mean square, times a frozen weight.

    Computed in float32 and rounded to the dtype of `x` before the weight multiplies, as in the
    Llama family of transformers.

    Args:
        x: [..., features].
        weight: [features], in the dtype of `x`.
        eps: added to the mean square.

    Returns:
        As `x`. Differentiable once.
    """
    implementation = _rows.rms_norm
    if not weight.requires_grad:
        if _suits_triton(x, weight):
            from unmask.kernels.rows_triton import rms_norm as implementation
        elif x.dtype == weight.dtype and x.dtype in (torch.float32, torch.bfloat16):
            from unmask.kernels.rows_pytorch import rms_norm as implementation
    with torch.cuda.device_of(x):
        return implementation(x, weight, eps)


@_without_autocast
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """`silu(gate) * up`, the gated activation of the Llama family.

    Args:
        gate: [..., features].
        up: the same.

    Returns:
        As `gate`. Differentiable once.
    """
    implementation = _rows.swiglu
    if _suits_triton(gate, up):
        from unmask.kernels.rows_triton import swiglu as implementation
    with torch.cuda.device_of(gate):
        return implementation(gate, up)


def dequantize_nf4(
    packed: Tensor,
    absmax: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    block_size: int = 64,
    absmax_levels: Tensor | None = None,
    absmax_scale: Tensor | None = None,
    absmax_offset: Tensor | None = None,
    absmax_block_size: int = 256,
) -> Tensor:
    """Weights from 4-bit NormalFloat, the same bits as bitsandbytes gives.

    Args:
        packed: uint8 [weights / 2] in any shape; the high half of a byte is the earlier weight.
        absmax: the scale of each block of `block_size` weights: float32, or with double
            quantisation uint8.
        shape: of the result.
        dtype: of the result; scales are applied in float32.
        block_size: weights that share a scale.
        absmax_levels: float32 [256], what the 8-bit scales stand for; None without double
            quantisation, as the next two.
        absmax_scale: float32, one for each `absmax_block_size` scales.
        absmax_offset: float32, a single number added to every scale.
        absmax_block_size: scales that share one in `absmax_scale`.

    Returns:
        [*shape] in `dtype`.
    """
    implementation = _dequantize_by_table
    if packed.is_cuda and triton_is_installed():
        from unmask.kernels.nf4_triton import dequantize_nf4 as implementation
    scales = (absmax_levels, absmax_scale, absmax_offset, absmax_block_size)
    with torch.cuda.device_of(packed):
        return implementation(packed, absmax, shape, dtype, block_size, *scales)


def _suits_triton(*tensors: Tensor) -> bool:
    """On a CUDA device, in one dtype that the kernels know, with Triton there."""
    first = tensors[0]
    return (
        first.is_cuda
        and all(x.dtype == first.dtype for x in tensors)
        and first.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and triton_is_installed()
    )


@cache
def triton_is_installed() -> bool:
    """Whether the kernels for CUDA devices can be compiled here."""
    return importlib.util.find_spec("triton") is not None


def _check_rotary(cos: Tensor | None, sin: Tensor | None, max_seqlen: int, head_dim: int) -> None:
    if cos is None and sin is None:
        return
    if cos is None or sin is None or cos.shape != sin.shape:
        shapes = [None if table is None else tuple(table.shape) for table in (cos, sin)]
        raise ValueError(
            f"cos and sin must be given together and in one shape, got {shapes[0]} and {shapes[1]}"
        )
    if cos.shape[1] * 2 != head_dim or len(cos) < max_seqlen:
        raise ValueError(
            f"cos and sin of shape {tuple(cos.shape)} do not fit heads of {head_dim} and sentences "
            f"of up to {max_seqlen} tokens: expected [{max_seqlen} or more, {head_dim} / 2]"
        )
