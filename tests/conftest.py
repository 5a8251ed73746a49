"""Tiny random models of every family that is tested, and what all tests of the core share."""

import os

# Before transformers is imported: no test may depend on what a hub answers.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    OlmoConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from unmask.backbones import LoadedBackbone, Weights, find_weights

WINDOW = 4
ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}

FAMILIES: dict[str, tuple[type[PreTrainedConfig], dict]] = {
    "llama": (LlamaConfig, {}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "mistral-window": (MistralConfig, {"sliding_window": WINDOW}),
    "qwen2": (Qwen2Config, {}),
    "qwen2-window": (
        Qwen2Config,
        {"use_sliding_window": True, "sliding_window": WINDOW, **ALTERNATING},
    ),
    "qwen3": (Qwen3Config, {}),
    "gemma2": (
        Gemma2Config,
        {"sliding_window": WINDOW, "attn_logit_softcapping": 2.0, **ALTERNATING},
    ),
    "gemma3": (Gemma3TextConfig, {"sliding_window": WINDOW, **ALTERNATING}),
    "olmo": (OlmoConfig, {}),
    "olmo2": (Olmo2Config, {}),
    "smollm3": (SmolLM3Config, {}),
}


def build_family(name: str, **changes):
    """A random decoder of four layers, in eager attention, float32, eval mode.

    Weights are drawn wide (0.3 where models use 0.02), so that attention is far from uniform and
    a wrong mask cannot hide below a tolerance.
    """
    config_class, special = FAMILIES[name]
    settings = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **special,
        **changes,
    }
    torch.manual_seed(0)
    config = config_class(**settings)
    return AutoModel.from_config(config, attn_implementation="eager").eval()


@pytest.fixture(params=sorted(FAMILIES))
def family(request) -> str:
    """The name of every family in turn."""
    return request.param


@pytest.fixture(scope="session")
def build():
    """`build("llama", **config_changes)`: a fresh random decoder."""
    return build_family


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """The tokenizer of the embedded backbone."""
    return AutoTokenizer.from_pretrained(find_weights("tiny").path)


@pytest.fixture(scope="session")
def load_random(tiny_tokenizer):
    """`load_random(dtype)`: a fresh random Llama as a loaded backbone, frozen."""

    def load(dtype=torch.float32, family="llama", **changes) -> LoadedBackbone:
        changes = {"vocab_size": len(tiny_tokenizer), "hidden_size": 16, "head_dim": 4, **changes}
        model = build_family(family, **changes).to(dtype).requires_grad_(False)
        weights = Weights("random", "random")
        return LoadedBackbone(
            weights, "random", model, tiny_tokenizer, False, quantization=None, dtype=dtype
        )

    return load


@pytest.fixture
def nan_in_empty(monkeypatch):
    """Memory from torch.empty holds NaN, so that an output left unwritten cannot pass."""

    def filled(make):
        def make_filled(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return make_filled

    monkeypatch.setattr(torch, "empty", filled(torch.empty))
    monkeypatch.setattr(torch, "empty_like", filled(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", filled(torch.Tensor.new_empty))


@pytest.fixture(scope="session")
def random_labeler():
    """`random_labeler(code)`: the embedded backbone with adapters and a head of random weights.

    Wide ones, so that it finds spans everywhere and every adapter matters.
    """
    from unmask import UnmaskedForTokenClassification

    def make(code="0110", labels=("LOC", "PER"), **settings):
        model = UnmaskedForTokenClassification.from_pretrained(
            "tiny", labels=labels, unmask=code, **settings
        )
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for _, layer in model.lora_layers:
                layer.lora_B.normal_(0, 0.1, generator=generator)
            model.score_weight.normal_(0, 0.5, generator=generator)
        return model

    return make


@pytest.fixture(scope="session")
def bytes_kept():
    """`bytes_kept(model, batch, draw)`: what a forward pass keeps for backward, without weights."""

    def count(model, batch, draw=None):
        kept = {}

        def keep(tensor):
            storage = tensor.untyped_storage()
            # Held, or its address may come again.
            kept[storage.data_ptr()] = tensor, storage.nbytes()
            return tensor

        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, model.route(batch, draw):
            model.losses(batch)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        return sum(size for address, (_, size) in kept.items() if address not in own)

    return count
