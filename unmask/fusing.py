"""Stock decoder blocks with their small steps fused: norm, gated activation, rotary embedding.

No modelling code is copied. A module is given a shorter `forward` of its own only where its class
computes, by the bytecode of its methods, exactly what transformers' Llama classes compute, which
Mistral, Qwen, SmolLM and others repeat word for word; anything else stays as it is. Weights, names
and the tree of modules do not change.

The rotary embedding moves into packed attention, which turns queries and keys as it reads them:

    stock    rotary_emb -> cos, sin of every token -> q, k turned in each layer -> attention
    packed   rotary_emb -> cos, sin of every place in a sentence -> attention turns q, k

The stock attention's own bytecode runs with another `apply_rotary_pos_emb`: given tables by place
it leaves q and k alone and lays the tables down at its module, where the attention function, which
is called next, takes them up. Given cos and sin by token it does what the stock one does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
    apply_rotary_pos_emb,
)

from unmask.kernels import rms_norm, swiglu

ROTATION = "apply_rotary_pos_emb"
TABLES = "rotary_tables"
"""Attribute of an attention module between its rotation and its attention function."""

Tables = tuple[Tensor, Tensor]


def fuse(model: nn.Module, longest: Callable[[], int | None]) -> Callable[[], None]:
    """Shorten what can be shortened of a frozen stock model.

    Args:
        model: a backbone whose attention is `unmask.attention`'s.
        longest: the longest sentence of the pack under way, None where the call is not packed.

    Returns:
        What undoes it.
    """
    fused = [*_fuse_rows(model), *_fuse_rotary(model, longest)]

    def undo() -> None:
        for module in fused:
            del module.forward

    return undo


def take_rotary(module: nn.Module) -> Tables | tuple[None, None]:
    """Cosines and sines by place, float32 or wider, that this call's q and k still need."""
    return module.__dict__.pop(TABLES, (None, None))


def _fuse_rows(model: nn.Module) -> list[nn.Module]:
    fused = []
    for module in model.modules():
        if _same(type(module).forward, LlamaRMSNorm.forward):
            module.forward = MethodType(_norm, module)
        elif _same(type(module).forward, LlamaMLP.forward) and _is_silu(module.act_fn):
            module.forward = MethodType(_gated, module)
        else:
            continue
        fused.append(module)
    return fused


def _is_silu(activation: Any) -> bool:
    # transformers has a class of its own beside PyTorch's.
    return isinstance(activation, nn.SiLU | type(ACT2FN["silu"]))


def _norm(self: Any, hidden_states: Tensor) -> Tensor:
    return rms_norm(hidden_states, self.weight, self.variance_epsilon)


def _gated(self: Any, x: Tensor) -> Tensor:
    return self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))


def _fuse_rotary(model: nn.Module, longest: Callable[[], int | None]) -> list[nn.Module]:
    """All or nothing: tables by place are no use to a layer that turns by token."""
    embedding: Any = getattr(model, "rotary_emb", None)
    turning = [m for m in model.modules() if ROTATION in _code(type(m).forward).co_names]
    if embedding is None or not turning:
        return []
    if not _same(type(embedding).forward, LlamaRotaryEmbedding.forward):
        return []
    if not all(_turns_as_llama(module, embedding) for module in turning):
        return []
    for module in turning:
        module.forward = MethodType(_with_rotation(module), module)
    stock = embedding.forward

    def by_place(self: Any, x: Tensor, position_ids: Tensor) -> Tables:
        length = longest()
        if length is None:
            return stock(x, position_ids)
        places = torch.arange(length, device=x.device)[None]
        # Only the dtype of x counts: tables are not rounded to that of the model.
        precise = x.new_empty(0, dtype=torch.promote_types(x.dtype, torch.float32))
        cos, sin = stock(precise, places)
        half = cos.shape[-1] // 2
        return cos[0, :, :half].contiguous(), sin[0, :, :half].contiguous()

    embedding.forward = MethodType(by_place, embedding)
    return [*turning, embedding]


def _turns_as_llama(module: Any, embedding: Any) -> bool:
    """The stock rotation, over whole heads."""
    forward = type(module).forward
    rotation = getattr(forward, "__globals__", {}).get(ROTATION)
    return (
        isinstance(forward, FunctionType)
        and rotation is not None
        and _same(rotation, apply_rotary_pos_emb)
        and getattr(module, "head_dim", None) == 2 * len(embedding.inv_freq)
    )


def _with_rotation(module: nn.Module) -> FunctionType:
    """The class' own `forward`, its rotation exchanged."""
    stock = type(module).forward
    rotate = stock.__globals__[ROTATION]

    def lay_down_or_rotate(
        q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if cos.ndim != 2:
            return rotate(q, k, cos, sin, *args, **kwargs)
        module.__dict__[TABLES] = (cos, sin)
        return q, k

    scope = {**stock.__globals__, ROTATION: lay_down_or_rotate}
    own = FunctionType(stock.__code__, scope, stock.__name__, stock.__defaults__, stock.__closure__)
    own.__kwdefaults__ = stock.__kwdefaults__
    return own


def _same(function: Any, other: Any) -> bool:
    """Do two functions compute the same, by their bytecode? Documentation does not count."""
    one, two = _code(function), _code(other)
    parts = ("co_code", "co_names", "co_varnames", "co_freevars")
    return all(getattr(one, part) == getattr(two, part) for part in parts) and (
        one.co_consts[1:] == two.co_consts[1:]
    )


def _code(function: Any) -> CodeType:
    return inspect.unwrap(function).__code__
