"""Every family in every configuration against masks built by hand in eager transformers."""

from contextlib import contextmanager

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForTokenClassification,
)

from unmask import attention
from unmask.attention import decoder_layers, install, remove, unmasked
from unmask.backbones import recomputing
from unmask.config import UnmaskConfig, gray_codes
from unmask.packing import pack_padded

NUM_LAYERS = 4
CODES = gray_codes(4)


def assert_close(actual, expected, atol=1e-5):
    """float32: states are of order 1, after four layers of sums of about 50 products each."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=1e-5)


RIGHT_PADDED = torch.tensor([[1] * 9, [1] * 5 + [0] * 4, [1] + [0] * 8])
LEFT_PADDED = RIGHT_PADDED.flip(1)


def hand_built_masks(model, config, attention_mask):
    """One additive [batch, 1, length, length] mask per layer, straight from the rule."""
    length = attention_mask.shape[1]
    i, j = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
    masks = []
    for layer, looks_right in enumerate(config.bidirectional):
        seen = torch.ones(length, length, dtype=torch.bool) if looks_right else j <= i
        window = window_of(model, layer)
        if window is not None:
            seen = seen & ((i - j).abs() < window)
        seen = seen[None, None] & attention_mask[:, None, None, :].bool()
        masks.append(torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min))
    return masks


def window_of(model, layer):
    types = getattr(model.config, "layer_types", None)
    if types is not None and types[layer] != "sliding_attention":
        return None
    return getattr(model.config, "sliding_window", None)


@contextmanager
def substituted(model, masks):
    """Every layer of an eager model gets its own mask."""

    def substitute(mask):
        def hook(module, args, kwargs):
            return args, {**kwargs, "attention_mask": mask}

        return hook

    layers = decoder_layers(model)
    hooks = [
        layer.register_forward_pre_hook(substitute(mask), with_kwargs=True)
        for layer, mask in zip(layers, masks, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def some_ids(attention_mask):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 64, attention_mask.shape, generator=generator)
    return ids * attention_mask


def restarting_positions(attention_mask):
    return (attention_mask.cumsum(1) - 1).clamp(min=0)


def expected_states(model, config, ids, attention_mask):
    with substituted(model, hand_built_masks(model, config, attention_mask)):
        return model(
            input_ids=ids, position_ids=restarting_positions(attention_mask), use_cache=False
        ).last_hidden_state


def packed_states(model, batch):
    return model(
        input_ids=batch.token_ids[None], position_ids=batch.position_ids[None], packed=batch
    ).last_hidden_state[0]


@pytest.mark.parametrize("attention_mask", [RIGHT_PADDED, LEFT_PADDED], ids=["right", "left"])
@torch.no_grad()
def test_all_16_configurations_equal_hand_built_masks(build, family, attention_mask):
    model = build(family)
    ids, kept = some_ids(attention_mask), attention_mask.bool()
    positions = restarting_positions(attention_mask)
    seen = []
    for code in CODES:
        config = UnmaskConfig.from_code(code, NUM_LAYERS)
        expected = expected_states(model, config, ids, attention_mask)[kept]
        with unmasked(model, config):
            padded = model(ids, attention_mask=attention_mask, position_ids=positions)
            batch, _ = pack_padded(ids, attention_mask, config.causal)
            packed = packed_states(model, batch)
        assert_close(padded.last_hidden_state[kept], expected)
        assert_close(packed, expected)
        seen.append(expected)
    different = torch.pdist(torch.stack(seen).flatten(1))
    assert different.min() > 0.1, "the configurations must differ for this test to mean anything"


@torch.no_grad()
def test_a_batch_of_one_without_padding_mask_is_not_silently_causal(build, family):
    model = build(family)
    ids = some_ids(torch.ones(1, 9, dtype=torch.long))
    for code in ("0000", "0010", "1111"):
        config = UnmaskConfig.from_code(code, NUM_LAYERS)
        expected = expected_states(model, config, ids, torch.ones_like(ids))
        with unmasked(model, config):
            assert_close(model(ids).last_hidden_state, expected)


def test_every_layer_calls_the_one_function_with_its_own_flag_window_and_cap(
    build, family, monkeypatch
):
    model = build(family)
    calls = []
    original = attention.varlen_attention

    def spy(q, k, v, cu_seqlens, max_seqlen, causal, scale, window, softcap):
        calls.append((causal.tolist(), window, softcap))
        return original(q, k, v, cu_seqlens, max_seqlen, causal, scale, window, softcap)

    monkeypatch.setattr(attention, "varlen_attention", spy)
    with unmasked(model, UnmaskConfig.from_code("0110", NUM_LAYERS)):
        model(torch.tensor([[5, 6, 7]]))
    cap = 2.0 if family == "gemma2" else None
    assert calls == [
        ([causal], window_of(model, layer), cap)
        for layer, causal in enumerate([True, False, False, True])
    ]


@torch.no_grad()
def test_configurations_share_one_packed_forward(build, family):
    model = build(family)
    ids = some_ids(RIGHT_PADDED)
    flags = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in ("0000", "0110", "1111")]
    batch, kept = pack_padded(ids, RIGHT_PADDED, flags[0].causal)
    batch.causal[:] = torch.tensor([config.causal for config in flags])
    with unmasked(model, flags[0]):
        packed = packed_states(model, batch).split(batch.lengths.tolist())
    for row, config in enumerate(flags):
        alone = expected_states(model, config, ids[row : row + 1], RIGHT_PADDED[row : row + 1])
        assert_close(packed[row], alone[kept[row : row + 1]])


@pytest.mark.parametrize("name", ["llama", "gemma2"])
@pytest.mark.parametrize("checkpointing", [None, True, False], ids=["no", "reentrant", "not"])
def test_gradients_equal_those_of_hand_built_masks_in_train_mode(build, name, checkpointing):
    model = build(name).train()
    config = UnmaskConfig.from_code("0110", NUM_LAYERS)
    ids, kept = some_ids(RIGHT_PADDED), RIGHT_PADDED.bool()
    weight = torch.randn(int(kept.sum()), 32, generator=torch.Generator().manual_seed(2))

    def gradients(states):
        model.zero_grad()
        (states * weight).sum().backward()
        return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    expected = gradients(expected_states(model, config, ids, RIGHT_PADDED)[kept])
    if checkpointing is not None:
        recomputing(model, "enable")({"use_reentrant": checkpointing})
    batch, _ = pack_padded(ids, RIGHT_PADDED, config.causal)
    with unmasked(model, config):
        padded = model(ids, attention_mask=RIGHT_PADDED)
        from_padded = gradients(padded.last_hidden_state[kept])
        from_packed = gradients(packed_states(model, batch))
    for name, gradient in expected.items():
        # Gradients reach 100, so the tolerance is taken relative to the largest of each tensor.
        scale = float(gradient.abs().max())
        assert_close(from_padded[name], gradient, atol=1e-5 * scale)
        assert_close(from_packed[name], gradient, atol=1e-5 * scale)


@torch.no_grad()
def test_flags_travel_with_a_saved_model(build, family, tmp_path):
    model = build(family)
    config = UnmaskConfig.from_code("0110", NUM_LAYERS)
    ids = some_ids(torch.ones(1, 9, dtype=torch.long))
    install(model, config)
    before = model(ids).last_hidden_state
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(
        tmp_path, attn_implementation="unmask", dtype=torch.float32
    ).eval()
    assert torch.equal(loaded(ids).last_hidden_state, before)


@torch.no_grad()
def test_a_token_classifier_of_transformers_keeps_its_open_layers(build, tmp_path):
    build("llama").save_pretrained(tmp_path / "base")
    model = AutoModelForTokenClassification.from_pretrained(
        tmp_path / "base", num_labels=3, dtype=torch.float32
    ).eval()
    install(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    model.save_pretrained(tmp_path / "labeler")
    loaded = AutoModelForTokenClassification.from_pretrained(
        tmp_path / "labeler", attn_implementation="unmask", dtype=torch.float32
    ).eval()
    first, second = torch.tensor([[5, 6, 7]]), torch.tensor([[5, 6, 8]])
    assert torch.equal(loaded(first).logits, model(first).logits)
    assert not torch.allclose(loaded(first).logits[0, 0], loaded(second).logits[0, 0])


@torch.no_grad()
def test_remove_restores_the_causal_model_exactly(build, family):
    model = build(family)
    ids = some_ids(RIGHT_PADDED)
    before = model(ids, attention_mask=RIGHT_PADDED).last_hidden_state
    with unmasked(model, UnmaskConfig.from_code("1111", NUM_LAYERS)):
        opened = model(ids, attention_mask=RIGHT_PADDED).last_hidden_state
    after = model(ids, attention_mask=RIGHT_PADDED)
    assert torch.equal(after.last_hidden_state, before)
    assert not torch.allclose(opened, before)
    assert after.past_key_values is not None
    assert not hasattr(model.config, attention.FLAGS_ATTRIBUTE)


def test_remove_leaves_caching_off_where_it_was_off(build):
    model = build("llama", use_cache=False)
    install(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    install(model, UnmaskConfig.from_code("0001", NUM_LAYERS))
    remove(model)
    assert model.config.use_cache is False


def test_remove_without_a_name_takes_what_the_model_supports(build, family):
    model = build(family)
    install(model, UnmaskConfig.from_code("1111", NUM_LAYERS))
    install(model, UnmaskConfig.from_code("0001", NUM_LAYERS))
    remove(model)
    assert model.config._attn_implementation == ("eager" if family == "gemma2" else "sdpa")


def test_remove_refuses_a_model_that_nothing_was_done_to(build):
    with pytest.raises(ValueError, match="nothing to remove: LlamaModel is not unmasked"):
        remove(build("llama"))


@torch.no_grad()
def test_the_window_leaves_what_is_seen_to_the_left_as_it_was(build):
    """Ours: distance below the window on both sides, as transformers has it to the left.

    transformers' own bidirectional window includes the distance `window` itself.
    """
    from transformers.masking_utils import create_bidirectional_sliding_window_mask

    model = build("mistral-window", num_hidden_layers=1)
    ids, window, token = torch.arange(3, 16)[None], 4, 6

    def reach(states):
        moved = []
        for place in range(13):
            changed = ids.clone()
            changed[0, place] = 40
            if (states(changed)[0, token] - states(ids)[0, token]).abs().max() > 1e-4:
                moved.append(place - token)
        return moved

    def run(changed):
        return model(changed, use_cache=False).last_hidden_state

    assert reach(run) == [-3, -2, -1, 0]
    with unmasked(model, UnmaskConfig((True,))):
        assert reach(run) == [-3, -2, -1, 0, 1, 2, 3]
    theirs = create_bidirectional_sliding_window_mask(
        config=model.config, inputs_embeds=torch.zeros(1, 13, 32), attention_mask=None
    )
    assert isinstance(theirs, torch.Tensor)
    seen = (theirs[0, 0, token] > -1).nonzero().flatten() - token
    assert seen.tolist() == list(range(-window, window + 1))


def test_layers_are_found_in_every_family(build, family):
    model = build(family)
    assert decoder_layers(model) is model.layers


def test_a_model_without_layers_is_refused(build):
    model = build("llama")
    model.layers = torch.nn.ModuleList()
    with pytest.raises(ValueError, match="LlamaModel has no list of layers"):
        decoder_layers(model)
