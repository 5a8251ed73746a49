"""Ways to compute attention within packed sentences, causal or not sentence by sentence.

Each is built for one problem (masks, indices and compiled code are prepared then, outside the
clock) and called with packed query, key and value before rotary embedding. What a peer must do to
take a pack (gather, pad, turn) happens inside the call, since a training step would have to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from unmask.kernels import attention_reference, varlen_attention
from unmask.kernels.rotary import full_angles, rotate

ROTARY_BASE = 10_000.0

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass
class Problem:
    """One pack to attend to, and where its tokens stand in a padded rectangle."""

    lengths: list[int]
    flags: list[bool]
    heads: int
    kv_heads: int
    head_dim: int
    dtype: torch.dtype
    device: str
    cu_seqlens: Tensor = field(init=False)
    causal: Tensor = field(init=False)
    cos: Tensor = field(init=False)
    sin: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.cu_seqlens = torch.tensor([0, *self.lengths]).cumsum(0).int().to(self.device)
        self.causal = torch.tensor(self.flags, device=self.device)
        speeds = ROTARY_BASE ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)
        angles = torch.arange(self.longest)[:, None] * speeds
        self.cos, self.sin = angles.cos().to(self.device), angles.sin().to(self.device)

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence."""
        return max(self.lengths)

    @property
    def scale(self) -> float:
        """Factor on the dot products."""
        return self.head_dim**-0.5

    def draw(self, seed: int = 0) -> list[Tensor]:
        """Fresh query, key, value and the gradient from above, [tokens, heads, head_dim]."""
        generator = torch.Generator(self.device).manual_seed(seed)
        heads = (self.heads, self.kv_heads, self.kv_heads, self.heads)
        shapes = [(sum(self.lengths), count, self.head_dim) for count in heads]
        drawn = [torch.randn(s, generator=generator, device=self.device) for s in shapes]
        return [x.to(self.dtype) for x in drawn]

    def places(self) -> tuple[Tensor, Tensor]:
        """Row and column of every token in the rectangle, int64 [tokens]."""
        lengths = torch.tensor(self.lengths, device=self.device)
        rows = torch.arange(len(lengths), device=self.device).repeat_interleave(lengths)
        columns = torch.arange(len(rows), device=self.device) - self.cu_seqlens[rows]
        return rows, columns

    def mask(self) -> Tensor:
        """bool [sentences, 1, longest, longest]; every place sees itself at least."""
        index = torch.arange(self.longest, device=self.device)
        distance = index[:, None] - index[None, :]
        exists = index < torch.tensor(self.lengths, device=self.device)[:, None, None]
        seen = exists & ((distance >= 0) | ~self.causal[:, None, None])
        return (seen | (distance == 0))[:, None]

    def definition(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The reference, in the dtype of what it is given."""
        return attention_reference.varlen_attention(
            query, key, value, self.cu_seqlens, self.longest, self.causal, self.scale,
            cos=self.cos, sin=self.sin,
        )  # fmt: skip


def ours(problem: Problem) -> Attention:
    """This project's: Triton on a CUDA device, rectangles elsewhere."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return varlen_attention(
            query, key, value, problem.cu_seqlens, problem.longest, problem.causal, problem.scale,
            cos=problem.cos, sin=problem.sin,
        )  # fmt: skip

    return attend


def padded_sdpa(problem: Problem) -> Attention:
    """PyTorch's SDPA on a padded rectangle with a boolean mask."""
    rows, columns = problem.places()
    mask = problem.mask()
    turn = _rotary(problem)
    grouped = problem.heads != problem.kv_heads

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (_pad(x, problem, rows, columns) for x in (turn(query), turn(key), value))
        out = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, scale=problem.scale, enable_gqa=grouped
        )
        return out.transpose(1, 2)[rows, columns]

    return attend


def transformers_sdpa(problem: Problem) -> Attention:
    """The function that transformers' own attention modules call, on a padded rectangle."""
    rows, columns = problem.places()
    mask = problem.mask()
    turn = _rotary(problem)
    module: Any = SimpleNamespace(
        num_key_value_groups=problem.heads // problem.kv_heads, is_causal=False, training=True
    )

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (_pad(x, problem, rows, columns) for x in (turn(query), turn(key), value))
        out, _ = sdpa_attention_forward(module, q, k, v, mask, scaling=problem.scale)
        return out[rows, columns]

    return attend


def two_varlen_launches(problem: Problem) -> Attention:
    """PyTorch's varlen attention, once for the causal sentences and once for the others."""
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    turn = _rotary(problem)
    rows, _ = problem.places()
    parts = []
    for causal in (True, False):
        lengths = [n for n, c in zip(problem.lengths, problem.flags, strict=True) if c == causal]
        if not lengths:
            continue
        offsets = torch.tensor([0, *lengths]).cumsum(0).int().to(problem.device)
        tokens = (problem.causal[rows] == causal).nonzero().flatten()
        options: dict[str, Any] = {"scale": problem.scale} if "scale" in known else {}
        if "is_causal" in known:
            options["is_causal"] = causal
        else:
            options["window_size"] = (-1, 0) if causal else (-1, -1)
        parts.append((tokens, offsets, max(lengths), options))
    # Where it has no such flag it hands heads on to FlashAttention, which groups them unasked.
    grouped: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in known else {}

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = turn(query), turn(key), value
        results = []
        for tokens, offsets, longest, options in parts:
            a, b, c = (q, k, v) if len(parts) == 1 else (q[tokens], k[tokens], v[tokens])
            result = varlen_attn(a, b, c, offsets, offsets, longest, longest, **options, **grouped)
            results.append(result)
        if len(parts) == 1:
            return results[0]
        order = torch.cat([tokens for tokens, *_ in parts])
        return torch.empty_like(q).index_copy(0, order, torch.cat(results))

    return attend


def flex_attention(problem: Problem) -> Attention:
    """PyTorch's FlexAttention, compiled, over the whole pack with a block mask made beforehand."""
    from torch.nn.attention.flex_attention import create_block_mask
    from torch.nn.attention.flex_attention import flex_attention as attend_flexibly

    rows, _ = problem.places()
    causal, tokens = problem.causal, sum(problem.lengths)

    def visible(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return (rows[i] == rows[j]) & ((i >= j) | ~causal[rows[i]])

    mask = create_block_mask(visible, None, None, tokens, tokens, problem.device)
    turn = _rotary(problem)
    compiled: Any = torch.compile(attend_flexibly, dynamic=False)
    grouped = problem.heads != problem.kv_heads

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (x.transpose(0, 1)[None] for x in (turn(query), turn(key), value))
        out = compiled(q, k, v, block_mask=mask, scale=problem.scale, enable_gqa=grouped)
        return out[0].transpose(0, 1)

    return attend


PEERS: dict[str, Callable[[Problem], Attention]] = {
    "ours": ours,
    "varlen x2": two_varlen_launches,
    "padded SDPA": padded_sdpa,
    "transformers": transformers_sdpa,
    "FlexAttention": flex_attention,
}

CUDA_ONLY = {"varlen x2", "FlexAttention"}


def _rotary(problem: Problem) -> Callable[[Tensor], Tensor]:
    """Rotary embedding as one compiled kernel on a CUDA device, plain PyTorch elsewhere."""

    def turn(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * c - second * s, second * c + first * s], dim=-1).to(x.dtype)

    _, columns = problem.places()
    if problem.device != "cuda":
        angles = full_angles(problem.cos, problem.sin, columns, problem.heads)
        return lambda x: rotate(x, *angles)
    c, s = problem.cos[columns, None], problem.sin[columns, None]
    return torch.compile(turn, dynamic=True)


def _pad(x: Tensor, problem: Problem, rows: Tensor, columns: Tensor) -> Tensor:
    """[tokens, heads, head_dim] to a rectangle [sentences, heads, longest, head_dim] of zeros."""
    rectangle = x.new_zeros(len(problem.lengths), problem.longest, *x.shape[1:])
    return rectangle.index_put((rows, columns), x).transpose(1, 2)
