"""The one attention function that stock transformers models call, packed or padded.

It is registered under the name "unmask" with transformers' attention interface, so no modelling
code is copied. In a packed call the flags come with the batch (`packed=`), one per sentence and
layer; in an ordinary padded call they come from the model's own config. Both registrations are
needed: without a mask function of the same name transformers hands over no padding mask at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from unmask.backbones import LoadedBackbone
from unmask.config import UnmaskConfig
from unmask.fusing import take_rotary
from unmask.kernels import varlen_attention
from unmask.kernels.autocast import cast_by_autocast
from unmask.packing import PackedBatch

IMPLEMENTATION = "unmask"
"""Name of the attention implementation; one that contains "flash" would be special-cased."""

FLAGS_ATTRIBUTE = "unmask_bidirectional"
"""Name of the list of flags in a model's config; it is saved with config.json."""

CACHE_ATTRIBUTE = "unmask_previous_use_cache"
"""Name of a model's attribute: whether it cached before `install`."""

NO_GENERATION = (
    "an unmasked layer sees tokens that generation has not produced yet, so use_cache and "
    "generate() make no sense here: call the model with use_cache=False, or "
    "unmask.attention.remove(model) first"
)


def configuration(
    loaded: LoadedBackbone, unmask: str | Sequence[int] | UnmaskConfig | None
) -> UnmaskConfig:
    """The configuration that a user means for this backbone.

    Raises:
        ValueError: for a decoder without one, or an encoder with one.
    """
    num_layers = loaded.model.config.num_hidden_layers
    if loaded.is_encoder:
        if unmask not in (None, "encoder"):
            raise ValueError(
                f"{loaded.weights.name} is an encoder: it looks right everywhere already, so leave "
                f"out the unmasking code {unmask!r}"
            )
        return UnmaskConfig((True,) * num_layers)
    if unmask is None:
        raise ValueError(
            f"{loaded.weights.name} is a decoder: say which layers look right, such as "
            'unmask="0110" (on the command line --unmask 0110)'
        )
    if isinstance(unmask, UnmaskConfig):
        return unmask
    if isinstance(unmask, str):
        return UnmaskConfig.parse(unmask, num_layers)
    return UnmaskConfig.from_layers(unmask, num_layers)


def install(model: PreTrainedModel, config: UnmaskConfig) -> str:
    """Make the layers of a stock model look right where `config` says so.

    The model's config carries the flags from then on, also through `save_pretrained`, and turns
    caching off, which an open layer cannot use.

    Returns:
        The attention implementation that was in use, for `remove`.

    Raises:
        ValueError: when the model has another number of layers, or does not use transformers'
            attention interface.
    """
    num_layers = model.config.num_hidden_layers
    if config.num_layers != num_layers:
        raise ValueError(
            f"this configuration is for {config.num_layers} layers, but "
            f"{type(model).__name__} has {num_layers}"
        )
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(
            f"{type(model).__name__} does not use transformers' attention interface, so its mask "
            "cannot be changed; choose a decoder that does (Llama, Mistral, Qwen, Gemma, OLMo)"
        )
    previous = str(model.config._attn_implementation)
    model.set_attn_implementation(IMPLEMENTATION)
    setattr(model.config, FLAGS_ATTRIBUTE, list(config.bidirectional))
    model.__dict__.setdefault(CACHE_ATTRIBUTE, getattr(model.config, "use_cache", True))
    model.config.use_cache = False
    _let_generate(model, not any(config.bidirectional))
    return previous


def remove(model: PreTrainedModel, attn_implementation: str | None = None) -> None:
    """Give a model its own causal attention, and its cache, back.

    Args:
        model: a model that `install` was called on, or one loaded with its flags.
        attn_implementation: what it is to use; None takes SDPA where the model supports it.

    Raises:
        ValueError: when nothing is installed.
    """
    if model.config._attn_implementation != IMPLEMENTATION:
        raise ValueError(f"nothing to remove: {type(model).__name__} is not unmasked")
    # SDPA cannot cap scores, which Gemma 2 does; older transformers say it could.
    capped = getattr(model.config, "attn_logit_softcapping", None) is not None
    fitting = "sdpa" if model._supports_sdpa and not capped else "eager"
    chosen = fitting if attn_implementation in (None, IMPLEMENTATION) else attn_implementation
    model.set_attn_implementation(chosen)
    delattr(model.config, FLAGS_ATTRIBUTE)
    model.config.use_cache = model.__dict__.pop(CACHE_ATTRIBUTE, True)
    _let_generate(model, True)


@contextmanager
def unmasked(model: PreTrainedModel, config: UnmaskConfig) -> Iterator[PreTrainedModel]:
    """`install` on entry, `remove` on exit."""
    previous = install(model, config)
    try:
        yield model
    finally:
        remove(model, previous)


@torch.compiler.disable(reason="attention is made of kernels of its own")
def unmask_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    packed: PackedBatch | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The signature that transformers calls.

    Args:
        module: the attention module; its `layer_idx` picks the flag.
        query: [batch, heads, length, head_dim]; batch is 1 when packed. Already rotated, but for
            the packed call of a module that `unmask.fusing` has shortened.
        key: [batch, kv_heads, length, head_dim].
        value: [batch, kv_heads, length, value_dim]; mostly value_dim is head_dim.
        attention_mask: bool [batch, length], True for tokens, or None for no padding.
        scaling: factor on the dot products; None means 1 / sqrt(head_dim).
        dropout: must be 0.
        softcap: see `unmask.kernels.varlen_attention`.
        packed: the batch whose tokens these are, or None for an ordinary call.
        **kwargs: what else the model passes on: `sliding_window` is obeyed, a cache and attention
            sinks are refused.

    Returns:
        [batch, length, heads, value_dim] and None in place of attention weights. Inside autocast in
        its dtype, as PyTorch's own attention gives it.
    """
    _refuse_unsupported(module, dropout, kwargs)
    query, key, value = cast_by_autocast(query, key, value)
    window = _window(module, packed.max_seqlen if packed else query.shape[2], kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    value_dim = value.shape[-1]
    query, key, value = _of_one_width(query, key, value)
    if packed is not None:
        flags = packed.causal[:, _layer(module)]
        q, k, v = (x.squeeze(0).transpose(0, 1) for x in (query, key, value))
        cos, sin = take_rotary(module)
        out = varlen_attention(
            q, k, v, packed.cu_seqlens, packed.max_seqlen, flags, scale, window, softcap, cos, sin
        )
        return out[None, ..., :value_dim], None
    causal = not _own_flags(module)[_layer(module)]
    if query.shape[2] != key.shape[2] or (kwargs.get("use_cache") and not causal):
        raise ValueError(NO_GENERATION)
    out = _padded(query, key, value, attention_mask, causal, scale, window, softcap)
    return out[..., :value_dim], None


def pass_padding_mask(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Any:
    """The mask function: hands the two-dimensional padding mask through as it is."""
    return attention_mask


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of blocks of a transformers model, input side first.

    Raises:
        ValueError: when there is no list of `num_hidden_layers` blocks.
    """
    for _, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
            return module
    raise ValueError(f"{type(model).__name__} has no list of layers to look at")


def _let_generate(model: nn.Module, allowed: bool) -> None:
    """Without a cache nothing in a forward pass tells that it is a step of generation."""
    if not hasattr(model, "generate"):
        return
    if allowed:
        model.__dict__.pop("generate", None)
    else:
        model.generate = _refuse_generation  # pyright: ignore[reportArgumentType]


def _refuse_generation(*args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError(NO_GENERATION)


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    causal: bool,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    batch, heads, length, head_dim = query.shape
    kept = torch.ones(batch, length, dtype=torch.bool, device=query.device)
    if attention_mask is not None:
        if attention_mask.ndim != 2:
            raise ValueError(
                f"attention_mask has {attention_mask.ndim} dimensions; pass the padding mask of "
                "shape [batch, length], the rest follows from the configuration"
            )
        kept = attention_mask.bool()
    lengths = kept.sum(dim=1)
    cu_seqlens = torch.zeros(batch + 1, dtype=torch.int32, device=query.device)
    torch.cumsum(lengths, dim=0, out=cu_seqlens[1:])
    q, k, v = (x.transpose(1, 2)[kept] for x in (query, key, value))
    flags = torch.full((batch,), causal, device=query.device)
    out = varlen_attention(q, k, v, cu_seqlens, int(lengths.max()), flags, scale, window, softcap)
    padded = out.new_zeros(batch, length, heads, head_dim)
    padded[kept] = out
    return padded


def _of_one_width(*tensors: Tensor) -> list[Tensor]:
    """Zeros beyond the narrower ones: multi-head latent attention has values of their own width."""
    width = max(x.shape[-1] for x in tensors)
    return [x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1])) for x in tensors]


def _window(module: nn.Module, length: int, kwargs: dict[str, Any]) -> int | None:
    """The window that the model passes on; one that it keeps in its mask alone is refused."""
    if "sliding_window" in kwargs:
        return kwargs["sliding_window"]
    config = getattr(module, "config", None)
    for name in ("sliding_window", "attention_chunk_size"):
        limit = getattr(config, name, None)
        if limit and length > limit:
            raise ValueError(
                f"{type(module).__name__} limits what a token sees by its mask alone "
                f"({name}={limit}), and this input of {length} tokens is longer: shorten it, or "
                "choose another backbone"
            )
    return None


def _layer(module: nn.Module) -> int:
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise ValueError(f"{type(module).__name__} does not know which layer it is (no layer_idx)")
    return layer


def _own_flags(module: nn.Module) -> list[bool]:
    flags = getattr(getattr(module, "config", None), FLAGS_ATTRIBUTE, None)
    if flags is None:
        raise ValueError(
            "this model asks for unmasked attention, but its config says nothing of which layers: "
            "call unmask.attention.install(model, UnmaskConfig.from_code(...)) first"
        )
    return flags


def _refuse_unsupported(module: nn.Module, dropout: float, kwargs: dict[str, Any]) -> None:
    if dropout:
        raise ValueError(
            f"attention dropout {dropout} is not supported: set attention_dropout (or "
            "attention_probs_dropout_prob) to 0 in the model's config"
        )
    if kwargs.get("s_aux") is not None:
        raise ValueError(f"{type(module).__name__} uses attention sinks, which are not supported")


AttentionInterface.register(IMPLEMENTATION, unmask_attention)
AttentionMaskInterface.register(IMPLEMENTATION, pass_padding_mask)
