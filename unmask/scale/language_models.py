"""The pair: a RoBERTa that fills in masked tokens, a decoder that foretells the next one.

Stock transformers classes. The one thing that is easy to get wrong: both must draw the same first
weights where they have the same, so the seed is set right before each is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
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
        "attn_implementation": "sdpa",
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


def masked_token_loss(model: PreTrainedModel, tokens: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy at the targets that are not `IGNORED`; both [chunks, length].

    The vocabulary's logits are made at those places alone: a seventh of the work.
    """
    places = targets != IGNORED
    hidden = model.base_model(input_ids=tokens).last_hidden_state[places]
    return F.cross_entropy(_head(model, hidden).float(), targets[places])


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
