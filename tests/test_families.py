"""Decoder families of transformers: closed as they always were, open where it was asked.

Random weights, drawn wide so that attention is far from uniform: a scale or a cap that is lost on
the way shows. Windows are longer than the sentences; tests/test_attention.py has short ones.
"""

import pytest
import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModel

from unmask.attention import unmasked
from unmask.config import UnmaskConfig
from unmask.packing import pack_padded
from unmask.verify import verify

PLAIN = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip
EXPERTS = {
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "shared_expert_intermediate_size": 16, "first_k_dense_replace": 1, "mlp_only_layers": [],
}  # fmt: skip
LATENT = {
    **EXPERTS, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16,
    "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "head_dim": 4,
}  # fmt: skip
"""Multi-head latent attention: heads of values are narrower than those of keys."""

PLAIN_FAMILIES = """
    apertus arcee bitnet cohere cohere2 cwm diffllama doge ernie4_5 exaone4 gemma gemma2
    gemma3_text gemma4_unified_text glm glm4 gpt_bigcode gpt_neox granite helium hunyuan_v1_dense
    hyperclovax internlm3 iquestcoder jais2 llama ministral ministral3 mistral modernbert-decoder
    nanochat olmo olmo2 olmo3 opt persimmon phi phi3 qwen2 qwen3 seed_oss smollm3 starcoder2
    vaultgemma
"""
FAMILIES_OF_EXPERTS = """
    afmoe cohere2_moe dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe granitemoe granitemoeshared
    hunyuan_v1_moe hy_v3 kolibri1 laguna llama4_text mellum minimax_m2 minimax_m3_vl_text mixtral
    olmoe phimoe qwen2_moe qwen3_moe solar_open
"""
LATENT_FAMILIES = """
    axk1 deepseek_v2 deepseek_v3 glm4_moe_lite minicpm3 youtu
"""
SETTINGS = {
    **dict.fromkeys(PLAIN_FAMILIES.split(), PLAIN),
    **dict.fromkeys(FAMILIES_OF_EXPERTS.split(), PLAIN | EXPERTS),
    **dict.fromkeys(LATENT_FAMILIES.split(), PLAIN | LATENT),
}
LENGTHS = (9, 5, 1)


def build(name):
    if name not in CONFIG_MAPPING:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    torch.manual_seed(0)
    config = CONFIG_MAPPING[name](**SETTINGS[name])
    model = AutoModel.from_config(config, attn_implementation="eager")
    return model.eval().requires_grad_(False)


def states(model, batch):
    return model(
        batch.token_ids[None], position_ids=batch.position_ids[None], packed=batch, use_cache=False
    ).last_hidden_state[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_closed_a_family_computes_what_it_always_did(name):
    model, closed = build(name), UnmaskConfig.from_code("0000", 4)
    ids = torch.randint(3, 64, (3, 9), generator=torch.Generator().manual_seed(1))
    sentences = [row[None, :length] for row, length in zip(ids, LENGTHS, strict=True)]
    alone = [model(sentence, use_cache=False).last_hidden_state[0] for sentence in sentences]
    expected = torch.cat(alone)
    kept = torch.arange(9) < torch.tensor(LENGTHS)[:, None]
    with unmasked(model, closed):
        packed = states(model, pack_padded(ids, kept, closed.causal)[0])
    # float32: sums of some 50 products, four layers deep.
    assert (packed - expected).abs().max() < 2e-5 * expected.abs().max()


@pytest.mark.parametrize("name", SETTINGS)
def test_opened_every_layer_of_a_family_sees_what_was_asked(name):
    model, config = build(name), UnmaskConfig.from_code("0110", 4)
    with unmasked(model, config):
        verify(model, config, lambda batch: states(model, batch)).check()
