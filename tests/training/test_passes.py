"""Passes over filled-up packs, and passes recorded as CUDA graphs, give what plain ones give."""

import pytest
import torch

from unmask.backbones import load_backbone
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack
from unmask.route import Draw
from unmask.training.passes import Passes

LABELS = (["PER", "LOC"], ["PER"])
LORA = (LoraSettings(rank=4), LoraSettings(rank=2, alpha=8))
CODES = ("0110", "1111")


def sentences(lengths, num_tags):
    return [
        EncodedSentence(
            "s",
            tuple((7 * index + place) % 900 for place in range(length)),
            tuple(range(length)),
            tuple(IGNORED_LABEL if place % 3 == 2 else place % num_tags for place in range(length)),
            0,
        )
        for index, length in enumerate(lengths)
    ]


def build(dtype, device):
    loaded = load_backbone("tiny", dtype, device=device)
    configs = [UnmaskConfig.from_code(code, 8) for code in CODES]
    return UnmaskedForTokenClassification(loaded, LABELS, configs, LORA, (120, 121)).train()


def batch_of(model, lengths=((5, 9), (12, 3))):
    return pack([sentences(own, 3) for own in lengths], model.causal)


def keys_of(model, step):
    return model.route.keys(Draw(model.seeds, (step, step)))


def taken(passes, batch, step, factors=(1.0, 0.5)):
    """Losses and gradients of one pass."""
    model = passes.model
    for parameter in passes.parameters:
        if parameter.grad is not None:
            parameter.grad.zero_()
    dtype = model.score_weight.dtype
    losses = passes(batch, keys_of(model, step), torch.tensor(factors, dtype=dtype))
    return [losses, *(p.grad.clone() for p in passes.parameters)]


@pytest.mark.parametrize(("tokens", "labelled", "fillers"), [(30, 22, 1), (64, 40, 3), (32, 20, 3)])
def test_filling_up_changes_no_loss_and_no_gradient(tokens, labelled, fillers):
    model = build("float64", "cpu")
    for _, layer in model.lora_layers:
        torch.nn.init.normal_(layer.lora_B[:, :, :2], std=0.1)
    passes = Passes(model, with_graphs=False)
    batch = batch_of(model)
    plain = taken(passes, batch, 3)
    filled = taken(passes, batch.padded(tokens, labelled, fillers), 3)
    for one, other in zip(plain, filled, strict=True):
        # Products of other shapes are summed in another order.
        torch.testing.assert_close(one, other, atol=1e-13, rtol=1e-11)


def test_a_filled_up_pack_has_the_sizes_asked_for():
    model = build("float32", "cpu")
    filled = batch_of(model).padded(40, 30, 2)
    assert filled.num_tokens == 40
    assert filled.cu_seqlens.tolist() == [0, 5, 14, 26, 29, 34, 40]
    assert filled.run_offsets.tolist() == [0, 14, 40]
    assert filled.max_seqlen == 12
    assert len(filled.labelled.places) == 30
    assert filled.labelled.run_offsets.tolist()[-1] == 30
    assert filled.position_ids.tolist()[29:] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("sizes", [(30, 22, 2), (40, 10, 2)])
def test_a_pack_without_room_is_refused(sizes):
    model = build("float32", "cpu")
    with pytest.raises(ValueError, match="no room for 29 tokens"):
        batch_of(model).padded(*sizes)


@pytest.mark.parametrize("tokens", [20, 61, 400, 1023, 6400])
def test_packs_are_filled_up_by_an_eighth_at_most_beyond_the_smallest_grid(tokens):
    model = build("float32", "cpu")
    lengths = [20] * (tokens // 20) + ([tokens % 20] if tokens % 20 else [])
    passes = Passes(model, with_graphs=True)
    filled = passes.fitted(batch_of(model, (lengths, (4,))))
    real = tokens + 4
    assert real < filled.num_tokens <= max(real + 2 * 64 + 2, real * 1.14)
    assert filled.num_tokens % 64 == 0
    assert filled.lengths[-1] <= 65


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_recorded_pass_gives_the_bits_of_a_plain_one(dtype):
    model = build(dtype, "cuda")
    for _, layer in model.lora_layers:
        torch.nn.init.normal_(layer.lora_B[:, :, :2], std=0.1)
    recorded, plain = Passes(model, True), Passes(model, False)
    packs = [batch_of(model), batch_of(model, ((9, 5), (2, 13)))]
    for step in range(6):
        batch = recorded.fitted(packs[step % 2])
        found = taken(recorded, batch, step)
        expected = taken(plain, batch, step)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other), step
    assert len(recorded._graphs) == 1, "packs of one size share a graph"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_recorded_pass_does_not_wait_for_the_device():
    model = build("bfloat16", "cuda")
    passes = Passes(model, True)
    batch = passes.fitted(batch_of(model))
    for step in range(3):
        taken(passes, batch, step)
    keys, factors = keys_of(model, 3), torch.ones(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        passes(batch, keys, factors)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gradients_that_were_put_elsewhere_are_recorded_anew():
    model = build("float32", "cuda")
    passes = Passes(model, True)
    batch = passes.fitted(batch_of(model))
    expected = [taken(passes, batch, 0) for _ in range(3)][-1]
    for parameter in passes.parameters:
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(3):
        found = taken(passes, batch, 0)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
