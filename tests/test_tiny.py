from __future__ import annotations

import importlib.util
import math
from importlib.resources import as_file, files
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from unmask.data import lookright

PRETRAIN = Path(__file__).parents[1] / "experiments" / "tiny_backbone" / "pretrain.py"


@pytest.fixture(scope="module")
def directory():
    with as_file(files("unmask") / "assets" / "tiny") as path:
        yield path


@pytest.fixture(scope="module")
def model(directory: Path):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(directory: Path):
    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def pretrain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pretrain", PRETRAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def loss_per_token(model, tokenizer, text: str) -> float:
    """Mean cross-entropy in nats of the sub-tokens of `text` after the first."""
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids, labels=ids).loss.item()


def test_the_model_is_a_stock_llama_of_eight_layers_with_grouped_queries(model):
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.config.num_hidden_layers == 8
    assert (model.config.num_attention_heads, model.config.num_key_value_heads) == (4, 2)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_the_assets_stay_small(directory: Path):
    assert sum(file.stat().st_size for file in directory.iterdir()) < 2_500_000


def test_the_config_says_nothing_of_is_causal(model):
    # transformers pushes a set `is_causal` into every layer.
    assert getattr(model.config, "is_causal", None) is None


def test_no_beginning_token_is_added_and_padding_is_the_end_token(tokenizer):
    assert tokenizer("the bank")["input_ids"] == tokenizer.convert_tokens_to_ids(["Ġthe", "Ġbank"])
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0
    assert tokenizer.bos_token_id is None
    assert tokenizer.unk_token_id is None


def test_the_model_embeds_every_token(model, tokenizer):
    assert len(tokenizer) == model.config.vocab_size


@settings(deadline=None)
@given(st.text())
def test_any_text_is_encoded_without_loss(tokenizer, text: str):
    ids = tokenizer(" " + text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == " " + text


def test_words_already_split_become_the_tokens_of_the_running_text(tokenizer):
    for sentence in lookright.generate(7, 60, 3, 3).train:
        split = tokenizer(list(sentence.words), is_split_into_words=True)
        running = tokenizer(" ".join(sentence.words))
        assert split["input_ids"] == running["input_ids"]


def test_words_that_decide_labels_are_single_tokens(tokenizer):
    nouns = [noun for nouns in lookright.LEFT_NOUNS.values() for noun in nouns]
    assert all(len(tokenizer(noun)["input_ids"]) == 1 for noun in nouns)


def test_the_model_has_learnt_the_language(model, tokenizer):
    sentences = lookright.generate(8, 100, 3, 3).train
    texts = [" ".join(sentence.words) for sentence in sentences]
    losses = [loss_per_token(model, tokenizer, text) for text in texts]
    shuffled = [" ".join(reversed(text.split())) for text in texts]
    losses_of_shuffled = [loss_per_token(model, tokenizer, text) for text in shuffled]
    mean = sum(losses) / len(losses)
    assert mean < 0.4 * math.log(model.config.vocab_size)
    assert mean < 0.5 * sum(losses_of_shuffled) / len(losses_of_shuffled)


def test_the_committed_weights_have_the_recorded_loss(pretrain: ModuleType, capsys):
    assert pretrain.main(["--check"]) == 0
    assert "recorded" in capsys.readouterr().out


def test_the_check_notices_other_weights(pretrain: ModuleType, monkeypatch, capsys):
    monkeypatch.setattr(pretrain, "held_out_loss", lambda model, tokenizer: 9.0)
    assert pretrain.main(["--check"]) == 1
    assert "are not the recorded ones; train again" in capsys.readouterr().err


def test_training_text_is_made_from_other_seeds_than_corpora(pretrain: ModuleType):
    stream = pretrain.documents(pretrain.SEED)
    seen = {next(stream) for _ in range(2000)}
    corpus = lookright.generate()
    assert not seen & {" ".join(sentence.words) for sentence in corpus.validation + corpus.test}


@pytest.mark.slow
def test_pretraining_learns_and_is_the_same_twice(pretrain: ModuleType, tmp_path: Path):
    for name in ("a", "b"):
        assert (
            pretrain.main(["--steps", "30", "--threads", "1", "--out", str(tmp_path / name)]) == 0
        )
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b")]
    assert weights[0] == weights[1]
