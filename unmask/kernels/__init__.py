"""The public tensor operations: packed attention and products with one weight per run.

Each picks an implementation by device; each implementation has the signature of the reference
beside it, and a test holds them to that. Nothing here knows a model, a tokenizer or a file.
"""

from __future__ import annotations

from torch import Tensor

from unmask.kernels.attention_rectangles import varlen_attention as _attention_rectangles
from unmask.kernels.lora_batched import grouped_linear as _linear_batched
from unmask.kernels.lora_batched import grouped_lora as _lora_batched


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
) -> Tensor:
    """Attention within each packed sentence, causal or not sentence by sentence.

    Args:
        query: [tokens, heads, head_dim], rotary embedding already applied.
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

    Returns:
        [tokens, heads, head_dim] in the dtype of `query`.
    """
    return _attention_rectangles(
        query, key, value, cu_seqlens, max_seqlen, causal, scale, window, softcap
    )


def grouped_lora(x: Tensor, lora_a: Tensor, lora_b: Tensor, run_offsets: Tensor) -> Tensor:
    """Low-rank update with one pair of matrices per run: `x @ A[run].T @ B[run].T`.

    Args:
        x: [tokens, in_features], tokens sorted by run.
        lora_a: [runs, rank, in_features].
        lora_b: [runs, out_features, rank].
        run_offsets: int32 [runs + 1] on the CPU, where each run's tokens begin.

    Returns:
        [tokens, out_features].
    """
    return _lora_batched(x, lora_a, lora_b, run_offsets)


def grouped_linear(x: Tensor, weight: Tensor, run_offsets: Tensor) -> Tensor:
    """One weight matrix per run: `x @ weight[run].T`.

    Args:
        x: [tokens, in_features], tokens sorted by run.
        weight: [runs, out_features, in_features].
        run_offsets: int32 [runs + 1] on the CPU.

    Returns:
        [tokens, out_features].
    """
    return _linear_batched(x, weight, run_offsets)
