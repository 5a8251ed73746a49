"""The proof: it agrees with every configuration, and catches every way of being wrong."""

from dataclasses import replace

import pytest
import torch

from unmask import attention
from unmask.attention import decoder_layers, unmasked
from unmask.config import UnmaskConfig, gray_codes
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.verify import verify, verify_runs

NUM_LAYERS = 4


def prove(model, config):
    """The proof of a stock model by a packed forward pass."""

    def forward(batch):
        model(
            input_ids=batch.token_ids[None],
            position_ids=batch.position_ids[None],
            packed=batch,
            use_cache=False,
        )

    return verify(model, config, forward)


def prove_without_packing(model, config):
    """The proof of one sentence, in a batch of one, without a padding mask."""

    def forward(batch):
        model(batch.token_ids[None], use_cache=False)

    return verify(model, config, forward, lengths=(6,))


@pytest.fixture(params=[prove, prove_without_packing], ids=["packed", "batch of one"])
def proof_of(request):
    return request.param


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_agrees_with_all_16_configurations(build, family, proof_of, training):
    model = build(family).train(training)
    for code in gray_codes(4):
        config = UnmaskConfig.from_code(code, NUM_LAYERS)
        with unmasked(model, config):
            proof = proof_of(model, config)
        assert [layer.looks_right for layer in proof.layers] == list(config.bidirectional)
        assert all(layer.looks_left and not layer.leaks for layer in proof.layers)
        proof.check()


def causal(run, q, k, v, cu_seqlens, max_seqlen, causal, *rest):
    return run(q, k, v, cu_seqlens, max_seqlen, torch.ones_like(causal), *rest)


def opened(run, q, k, v, cu_seqlens, max_seqlen, causal, *rest):
    return run(q, k, v, cu_seqlens, max_seqlen, torch.zeros_like(causal), *rest)


def leaking(run, q, k, v, cu_seqlens, max_seqlen, causal, *rest):
    """As if there were one sentence."""
    return run(q, k, v, cu_seqlens[[0, -1]], len(q), causal[:1], *rest)


def blind(run, q, k, v, *rest):
    """Every token sees itself alone."""
    return v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


def sabotage_layer(monkeypatch, layer, sabotage):
    original = attention.varlen_attention
    calls = iter(range(10_000))

    def wrong(*args):
        # Every layer runs twice in a proof: in the forward pass, then with one token changed.
        is_chosen = next(calls) // 2 == layer
        return sabotage(original, *args) if is_chosen else original(*args)

    monkeypatch.setattr(attention, "varlen_attention", wrong)


@pytest.mark.parametrize("layer", [0, NUM_LAYERS - 1])
@pytest.mark.parametrize(
    ("code", "sabotage", "complaint"),
    [
        ("1111", causal, "layer {} is causal but should look right"),
        ("0000", opened, "layer {} looks right but should be causal"),
        ("1111", leaking, "layer {} sees other sentences"),
        ("0000", leaking, "layer {} sees other sentences"),
        ("0000", blind, "layer {} does not even see left"),
    ],
)
def test_one_wrong_layer_is_found_in_every_family(
    build, family, monkeypatch, layer, code, sabotage, complaint
):
    model = build(family)
    config = UnmaskConfig.from_code(code, NUM_LAYERS)
    sabotage_layer(monkeypatch, layer, sabotage)
    with unmasked(model, config):
        proof = prove(model, config)
    assert [p.layer for p in proof.layers if not p.agrees] == [layer]
    with pytest.raises(RuntimeError, match=complaint.format(layer)):
        proof.check()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_stock_model_that_never_asked_for_our_attention_is_found(build, implementation, proof_of):
    """What befell the predecessors: flags in the config, and another attention in use."""
    model = build("llama")
    model.set_attn_implementation(implementation)
    model.config.unmask_bidirectional = [True] * NUM_LAYERS
    proof = proof_of(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    assert [layer.looks_right for layer in proof.layers] == [False] * NUM_LAYERS
    assert not proof.agrees


def test_setting_is_causal_alone_does_not_convince(build):
    model = build("llama")
    for layer in model.layers:
        layer.self_attn.is_causal = False
    proof = prove_without_packing(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    assert not any(layer.looks_right for layer in proof.layers)


def test_another_configuration_than_the_installed_one_is_found(build):
    model = build("llama")
    with unmasked(model, UnmaskConfig.from_code("0110", NUM_LAYERS)):
        proof = prove_without_packing(model, UnmaskConfig.from_code("0101", NUM_LAYERS))
    assert [layer.agrees for layer in proof.layers] == [True, True, False, False]


def test_states_that_are_not_finite_never_pass(build):
    model = build("llama")
    model.layers[2].mlp.down_proj.weight.data.fill_(float("nan"))
    config = UnmaskConfig.from_code("1111", NUM_LAYERS)
    with unmasked(model, config):
        proof = prove(model, config)
    assert [layer.agrees for layer in proof.layers] == [True, True, False, False]


def test_the_table_names_what_is_wrong(build):
    model = build("llama")
    with unmasked(model, UnmaskConfig.from_code("0010", NUM_LAYERS)):
        proof = prove_without_packing(model, UnmaskConfig.from_code("0011", NUM_LAYERS))
    rows = [line.split() for line in proof.to_text().splitlines()]
    assert rows[3] == ["2", "both", "sides", "yes", "yes", "no", "ok"]
    assert rows[4] == ["3", "both", "sides", "no", "yes", "no", "WRONG"]


def test_the_proof_leaves_no_hooks_behind(build):
    model = build("llama")
    config = UnmaskConfig.from_code("0110", NUM_LAYERS)
    with unmasked(model, config):
        prove(model, config)
    assert not any(layer._forward_hooks for layer in decoder_layers(model))


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_run_of_a_stack_is_proven(load_random, training, dtype):
    configs = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in ("0000", "0110", "1111")]
    model = UnmaskedForTokenClassification(
        load_random(dtype), ["PER"], configs, LoraSettings(rank=2), seeds=[1, 2, 3]
    ).train(training)
    for run, config in enumerate(configs):
        proof = model.verify_mask(run)
        assert [layer.looks_right for layer in proof.layers] == list(config.bidirectional)
        assert proof.agrees
        other = UnmaskConfig(config.causal)
        model.configs = (other,) * 3
        model.verify_mask(run).check()
        model.configs = tuple(configs)


def test_one_run_that_differs_is_found_among_all(load_random):
    """All runs are probed in one pass: what is wrong with one must show in its proof alone."""
    configs = [
        UnmaskConfig.from_code(code, NUM_LAYERS) for code in ("0000", "0110", "1111", "0001")
    ]
    model = UnmaskedForTokenClassification(
        load_random(), ["PER"], configs, LoraSettings(rank=2), seeds=[1, 2, 3, 4]
    )
    assert model.verify_masks() == [model.verify_mask(run) for run in range(4)]
    assert [proof.agrees for proof in model.verify_masks([3, 1])] == [True, True]
    wrong = UnmaskConfig.from_code("0010", NUM_LAYERS)

    def forward(batch):
        with model.route(batch):
            model.hidden_states(batch)

    def forward_otherwise(batch):
        causal = batch.causal.clone()
        causal[3:6] = torch.tensor(wrong.causal)  # the second run's three sentences
        forward(replace(batch, causal=causal))

    proofs = verify_runs(model.backbone, configs, forward_otherwise)
    assert [proof.agrees for proof in proofs] == [True, False, True, True]
    assert [layer.looks_right for layer in proofs[1].layers] == list(wrong.bidirectional)
