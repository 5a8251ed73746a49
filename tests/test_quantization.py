"""NF4 weights that stay written out are those of every pass, and the choice is said aloud."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from torch import nn

from unmask import quantization
from unmask.backbones import load_backbone
from unmask.quantization import make_resident, quantize_linears, settle_residence

BOTH_DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


WHOLE_BLOCKS = {"hidden_size": 64, "head_dim": 32, "intermediate_size": 128}
"""Rows of whole blocks of 64, as real models have: bitsandbytes misreads others on some CPUs."""


def kinds(model):
    return {type(m) for m in model.modules() if isinstance(m, nn.Linear)}


@BOTH_DTYPES
def test_resident_weights_compute_the_same_numbers_forward_and_backward(load_random, dtype):
    model = load_random(dtype, **WHOLE_BLOCKS).model
    quantize_linears(model, dtype)
    # Several rows: bitsandbytes rounds otherwise in its kernel for a single one.
    embeddings = torch.randn(3, 7, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    results = []
    for residence in (lambda: None, lambda: make_resident(model, dtype)):
        residence()
        leaf = embeddings.clone().requires_grad_()
        hidden = model(inputs_embeds=leaf, use_cache=False).last_hidden_state
        results.append((hidden, *torch.autograd.grad(hidden.float().square().sum(), leaf)))
    assert kinds(model) == {nn.Linear}
    for every_pass, resident in zip(*results, strict=True):
        assert torch.equal(every_pass, resident)


@BOTH_DTYPES
def test_evaluation_leaves_nf4_weights_and_their_gradients_as_they_were(load_random, dtype):
    model = load_random(dtype, **WHOLE_BLOCKS).model
    quantize_linears(model, dtype)
    weights: list[Any] = [m.weight for m in model.modules() if isinstance(m, Linear4bit)]
    before = [(w.data.clone(), w.quant_state.absmax.clone()) for w in weights]
    embeddings = torch.randn(3, 7, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    gradients = []
    for _ in range(2):
        leaf = embeddings.clone().requires_grad_()
        hidden = model.train()(inputs_embeds=leaf, use_cache=False).last_hidden_state
        gradients += torch.autograd.grad(hidden.float().square().sum(), leaf)
        with torch.no_grad():
            model.eval()(inputs_embeds=embeddings, use_cache=False)
    for weight, (data, absmax) in zip(weights, before, strict=True):
        assert torch.equal(weight.data, data)
        assert torch.equal(weight.quant_state.absmax, absmax)
    assert torch.equal(*gradients)


@BOTH_DTYPES
def test_resident_layers_are_frozen_and_keep_their_biases(dtype):
    first, second = nn.Linear(70, 9, dtype=dtype), nn.Linear(9, 64, bias=False, dtype=dtype)
    model = nn.Sequential(first, second).requires_grad_(False)
    bias = first.bias.clone()
    quantize_linears(model, dtype)
    make_resident(model, dtype)
    state = model.state_dict()
    shapes = {name: tuple(x.shape) for name, x in state.items()}
    assert shapes == {"0.weight": (9, 70), "0.bias": (9,), "1.weight": (64, 9)}
    assert all(p.dtype == dtype and not p.requires_grad for p in model.parameters())
    assert torch.equal(state["0.bias"], bias)
    assert [repr(m) for m in model] == [repr(first), repr(second)]


@pytest.mark.parametrize(
    ("resident", "free", "kind", "note"),
    [
        (None, 10**9, nn.Linear, "stay written out, the same numbers: memory allows it (0.0 GiB"),
        (None, 1000, Linear4bit, "are written out anew in every pass: memory is short"),
        (True, 1000, nn.Linear, "stay written out, the same numbers: as asked"),
        (False, 10**9, Linear4bit, "are written out anew in every pass: as asked"),
    ],
)
def test_memory_decides_unless_told_and_the_note_says_so(
    load_random, monkeypatch, resident, free, kind, note
):
    monkeypatch.setattr(
        quantization.psutil, "virtual_memory", lambda: SimpleNamespace(available=free)
    )
    model = load_random(**WHOLE_BLOCKS).model
    quantize_linears(model, torch.float32)
    said = settle_residence(model, torch.float32, resident)
    assert said.startswith(f"NF4 weights {note}")
    assert kinds(model) == {kind}


def test_layers_whose_rows_share_blocks_are_always_written_out_and_right():
    first, second = nn.Linear(16, 64, bias=False), nn.Linear(64, 3, bias=False)
    model = nn.Sequential(first, second).requires_grad_(False)
    original = first.weight.clone()
    quantize_linears(model, torch.float32)
    settle_residence(model, torch.float32, resident=False)
    assert [type(layer) for layer in model] == [nn.Linear, Linear4bit]
    blocks = original.view(-1, 64)
    errors = (model.state_dict()["0.weight"].view(-1, 64) - blocks).abs().amax(dim=1)
    # Half of the widest gap between two levels of NF4 (1 and .7230, -1 and -.6962) is .152 of the
    # block's scale, which is itself rounded to 8 bits.
    assert (errors <= 0.17 * blocks.abs().amax(dim=1)).all()


@pytest.mark.parametrize(("resident", "kind"), [(False, Linear4bit), (True, nn.Linear)])
def test_the_backbone_is_loaded_as_asked_and_notes_it(resident, kind):
    loaded = load_backbone("tiny", "float32", "nf4", "cpu", resident=resident)
    assert kinds(loaded.model) == {kind}
    assert loaded.quantization == "nf4"
    assert any("NF4 weights" in note for note in loaded.notes)


def test_unquantised_backbones_have_nothing_to_settle():
    assert load_backbone("tiny", "float32", device="cpu").notes == []
