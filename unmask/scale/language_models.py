"""The pair: a RoBERTa that fills in masked tokens, a decoder that foretells the next one.

Stock transformers classes. The one thing that is easy to get wrong: both must draw the same first
weights where they have the same, so the seed is set right before each is made.

Chunks have no padding, so attention gets no mask but a flag. The stock ways would make a mask of
[chunks, 1, length, length] when compiled, which keeps PyTorch from its flash kernels, and ask the
device in every pass whether a chunk holds several texts.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForCausalLM,
    RobertaForMaskedLM,
)

from unmask.scale.settings import Pretraining

IGNORED = -100
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Of the tokens to be foretold: replaced by the mask token, by any token; the rest stay (BERT)."""

ATTENTION = "unmask_whole_chunks"
"""An attention without a mask function of the same name: transformers makes no mask for it."""

ALIGNMENT = 64
"""Rows of bfloat16 logits that begin on no 16 bytes send cuBLAS to slow kernels."""


def build(kind: str, settings: Pretraining, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model with fresh weights, in float32.

    Args:
        kind: "encoder" or "decoder".
        settings: the shape and the seed.
        tokenizer: gives the size of the vocabulary and the special tokens.
    """
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": settings.num_layers,
        "hidden_size": settings.hidden_size,
        "num_attention_heads": settings.num_heads,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "use_cache": False,
        "tie_word_embeddings": True,
        "dtype": "float32",
        "attn_implementation": ATTENTION,
    }
    context, padding = settings.recipe.max_subtokens, int(shared["pad_token_id"])
    torch.manual_seed(settings.seed)
    if kind == "decoder" and settings.decoder_shape == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                **shared,
                intermediate_size=2 * settings.intermediate_size // 3,
                max_position_embeddings=context,
                attention_dropout=settings.dropout,
            )
        )
    config = RobertaConfig(
        **shared,
        intermediate_size=settings.intermediate_size,
        # RoBERTa counts positions from the padding id onwards.
        max_position_embeddings=context + padding + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        is_decoder=kind == "decoder",
    )
    return RobertaForCausalLM(config) if kind == "decoder" else RobertaForMaskedLM(config)


def next_token_loss(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of tokens [chunks, length], each foretold from those before it."""
    hidden = model.base_model(input_ids=tokens).last_hidden_state[:, :-1]
    logits = _head(model, hidden.flatten(0, 1))
    return F.cross_entropy(logits.float(), tokens[:, 1:].flatten())


def masked_token_loss(
    model: PreTrainedModel, tokens: Tensor, places: Tensor, targets: Tensor
) -> Tensor:
    """Mean cross-entropy of what was hidden.

    The vocabulary's logits are made at the hidden places alone: a seventh of the work.

    Args:
        model: the encoder.
        tokens: int64 [chunks, length], as it sees them.
        places: int64 [hidden], into the flattened tokens; see `hidden_places`.
        targets: int64 [hidden]; those that are `IGNORED` only fill up.
    """
    states = model.base_model(input_ids=tokens).last_hidden_state
    hidden = states.flatten(0, 1).index_select(0, places)
    return F.cross_entropy(_head(model, hidden).float(), targets, ignore_index=IGNORED)


def hidden_places(targets: np.ndarray, multiple: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Where targets are not `IGNORED`, and those; found on the host, so that no device is asked.

    Args:
        targets: int64 [chunks, length] from `mask_tokens`.
        multiple: of the size of both, filled up by places with nothing to foretell; few sizes
            keep a compiled loss from being compiled again and again.

    Returns:
        int64 [hidden] into the flattened targets, and int64 [hidden].
    """
    flat = targets.reshape(-1)
    places = np.flatnonzero(flat != IGNORED)
    filled = (0, -len(places) % multiple)
    return np.pad(places, filled), np.pad(flat[places], filled, constant_values=IGNORED)


def align_head(model: PreTrainedModel) -> None:
    """Let the head compute logits of a whole multiple of `ALIGNMENT` words, for a GPU.

    Those that are no words are at minus infinity, so no loss and no gradient changes. Weights,
    their names and what is saved stay as they are.
    """
    head: Any = model.get_output_embeddings()
    if len(head.weight) % ALIGNMENT:
        head.forward = MethodType(_aligned, head)


def _aligned(self: nn.Linear, x: Tensor) -> Tensor:
    missing = -len(self.weight) % ALIGNMENT
    bias = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias
    weight, bias = (
        F.pad(self.weight, (0, 0, 0, missing)),
        F.pad(bias, (0, missing), value=-torch.inf),
    )
    return F.linear(x, weight, bias)


def mask_tokens(
    tokens: np.ndarray,
    tokenizer: PreTrainedTokenizerBase,
    probability: float,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide tokens for masked language modelling.

    Special tokens are never chosen; when chance chooses nothing, the first ordinary token is.

    Returns:
        What the model sees and what it is to foretell, `IGNORED` elsewhere; int64, as `tokens`.
    """
    tokens = tokens.astype(np.int64)
    ordinary = ~np.isin(tokens, tokenizer.all_special_ids)
    chosen = (generator.random(tokens.shape) < probability) & ordinary
    if not chosen.any():
        chosen.flat[np.argmax(ordinary)] = True
    mask_id: Any = tokenizer.mask_token_id
    fate = generator.random(tokens.shape)
    any_token = generator.integers(0, len(tokenizer), tokens.shape)
    seen = np.where(chosen & (fate < MASKED_SHARE), mask_id, tokens)
    replaced = chosen & (fate >= MASKED_SHARE) & (fate < MASKED_SHARE + RANDOM_SHARE)
    return np.where(replaced, any_token, seen), np.where(chosen, tokens, IGNORED)


def _head(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    head: Any = model.lm_head
    return head(hidden)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The signature that transformers calls: [chunks, heads, length, head_dim] each."""
    assert attention_mask is None
    out = F.scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=module.is_causal, scale=scaling
    )
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attention)
