"""What an opened model refuses, for its answer would be wrong: generation, caches, odd masks."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BloomConfig,
    GptOssConfig,
    Qwen2MoeConfig,
)

from unmask.attention import install, remove
from unmask.config import UnmaskConfig

NUM_LAYERS = 4


def assert_close(actual, expected, atol=1e-5):
    """float32: states are of order 1, after four layers of sums of about 50 products each."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


def causal_lm(model):
    lm = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
    lm.generation_config.pad_token_id = 0
    lm.generation_config.eos_token_id = None
    return lm


@pytest.mark.parametrize("code", ["0000", "0001", "1111"])
def test_generation_is_refused(build, family, code):
    model = causal_lm(build(family))
    prompt = torch.tensor([[5, 6]])
    install(model, UnmaskConfig.from_code(code, NUM_LAYERS))
    with pytest.raises(ValueError, match=r"use_cache and generate\(\) make no sense here"):
        model.generate(prompt, max_new_tokens=2, do_sample=False)
    remove(model)
    assert model.generate(prompt, max_new_tokens=2, do_sample=False).shape == (1, 4)


@pytest.mark.parametrize("code", ["0001", "1111"])
def test_generation_without_a_cache_is_refused_where_a_layer_is_open(build, code):
    model = causal_lm(build("llama"))
    prompt = torch.tensor([[5, 6]])
    settings = {"max_new_tokens": 2, "do_sample": False, "use_cache": False}
    before = model.generate(prompt, **settings)
    install(model, UnmaskConfig.from_code(code, NUM_LAYERS))
    with pytest.raises(ValueError, match=r"use_cache and generate\(\) make no sense here"):
        model.generate(prompt, **settings)
    install(model, UnmaskConfig.from_code("0000", NUM_LAYERS))
    assert model.generate(prompt, **settings).equal(before)
    remove(model)
    assert model.generate(prompt, **settings).equal(before)


def test_a_cache_is_refused_where_a_layer_is_open(build):
    model = build("llama")
    install(model, UnmaskConfig.from_code("0001", NUM_LAYERS))
    with pytest.raises(ValueError, match="call the model with use_cache=False"):
        model(torch.tensor([[5, 6]]), use_cache=True)


def test_a_model_without_flags_is_refused(build, tmp_path):
    build("llama").save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, attn_implementation="unmask", dtype=torch.float32)
    with pytest.raises(ValueError, match="its config says nothing of which layers"):
        model(torch.tensor([[5, 6]]))


def test_a_configuration_for_another_depth_is_refused(build):
    with pytest.raises(ValueError, match="is for 8 layers, but LlamaModel has 4"):
        install(build("llama"), UnmaskConfig.from_code("0110", 8))


def test_a_model_without_the_attention_interface_is_refused():
    model = AutoModel.from_config(BloomConfig(hidden_size=16, n_head=2, n_layer=4, vocab_size=64))
    with pytest.raises(ValueError, match="BloomModel does not use transformers' attention inter"):
        install(model, UnmaskConfig.from_code("0110", 4))


def test_attention_sinks_are_refused():
    config = GptOssConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, num_local_experts=2, num_experts_per_tok=1,
        vocab_size=64, pad_token_id=0,
    )  # fmt: skip
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    install(model, UnmaskConfig.from_code("01", 2))
    with pytest.raises(ValueError, match="uses attention sinks, which are not supported"):
        model(torch.tensor([[5, 6]]))


def test_attention_dropout_is_refused_in_training_only(build):
    model = build("llama", attention_dropout=0.1)
    install(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    model(torch.tensor([[5, 6]]))
    with pytest.raises(ValueError, match=r"attention dropout 0.1 is not supported: set"):
        model.train()(torch.tensor([[5, 6]]))


def test_a_window_that_only_the_mask_knows_is_refused_once_it_bites():
    config = Qwen2MoeConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=64, pad_token_id=0, moe_intermediate_size=8,
        shared_expert_intermediate_size=8, num_experts=2, num_experts_per_tok=1,
        use_sliding_window=True, sliding_window=4, max_window_layers=2,
    )  # fmt: skip
    model = AutoModel.from_config(config, attn_implementation="eager").eval()
    install(model, UnmaskConfig.from_code("01", 2))
    model(torch.arange(3, 7)[None])
    with pytest.raises(ValueError, match=r"by its mask alone \(sliding_window=4\)"):
        model(torch.arange(3, 8)[None])


def test_a_mask_of_four_dimensions_is_refused(build):
    model = build("llama")
    install(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    with pytest.raises(ValueError, match="attention_mask has 4 dimensions; pass the padding mask"):
        model(torch.tensor([[5, 6]]), attention_mask=torch.zeros(1, 1, 2, 2))
