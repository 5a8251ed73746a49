"""All kernels at once: a training step of a decoder, every operation in Triton."""

import pytest
import torch

from unmask import kernels
from unmask.config import UnmaskConfig
from unmask.data.alignment import EncodedSentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.route import Draw


def sentence(*token_ids):
    return EncodedSentence("s", token_ids, tuple(range(len(token_ids))), (1,) * len(token_ids), 0)


RUNS = [[sentence(5, 6, 7), sentence(8)], [sentence(9, 4, 3, 7)]]


def stack(load_random, device):
    """Two runs with dropout, their matrices B filled."""
    configs = [UnmaskConfig.from_code(code, 4) for code in ("0110", "1000")]
    model = UnmaskedForTokenClassification(
        load_random(), ["PER"], configs, LoraSettings(rank=4, dropout=0.3), [1, 2]
    )
    generator = torch.Generator().manual_seed(5)
    for _, layer in model.lora_layers:
        layer.lora_B.data.normal_(generator=generator)
    return model.to(device).train()


def step(model):
    model.zero_grad()
    batch = model.batch(RUNS)
    with model.route(batch, Draw((1, 2), (3, 4))):
        losses = model.losses(batch)
        losses.sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.stacked_parameters().items()}
    return {"losses": losses.detach(), **gradients}


def test_a_step_in_triton_is_the_step_without_it(
    load_random, monkeypatch, triton_device, nan_in_empty
):
    model = stack(load_random, triton_device)
    monkeypatch.setattr(kernels, "_suits_triton", lambda *tensors: False)
    expected = step(model)
    used = []
    monkeypatch.setattr(kernels, "_suits_triton", lambda *tensors: bool(used.append(1)) or True)
    actual = step(model)
    # Four layers, of which each has two norms, two adapters, an attention and an activation; then
    # the last norm, and the dropout and the product of the heads.
    assert len(used) == 4 * 6 + 3
    for name, right in expected.items():
        gap = (actual[name] - right).abs().max() / right.abs().max()
        assert gap < 1e-4, name  # float32, sums in another order


def test_a_step_in_triton_keeps_no_activation_that_no_gradient_needs(
    load_random, monkeypatch, triton_device
):
    model = stack(load_random, triton_device)
    monkeypatch.setattr(kernels, "_suits_triton", lambda *tensors: True)
    held = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept = {}

    def keep(tensor):
        if tensor.is_floating_point() and tensor.data_ptr() not in held:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so no address comes twice
        return tensor

    batch = model.batch(RUNS)
    with (
        model.route(batch, Draw((1, 2), (3, 4))),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model.hidden_states(batch)
    config, rank = model.backbone.config, model.run_lora[0].rank
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    queries, keys = heads * config.head_dim, config.num_key_value_heads * config.head_dim
    norms = 2 * (hidden + 1)  # both inputs, and one number a token
    adapters = hidden + 2 * rank  # their one input; what lies between A and B
    attention = 2 * queries + 2 * keys + heads  # queries and output, keys and values, row sums
    activation = 2 * inner
    per_layer = norms + adapters + attention + activation
    # Below the first adapter there is no gradient: the first norm keeps nothing, the last does.
    counted = sum(tensor.untyped_storage().nbytes() // 4 for tensor in kept.values())
    assert counted == batch.num_tokens * 4 * per_layer


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_nothing_in_a_step_waits_for_the_device(load_random):
    model = stack(load_random, "cuda")
    step(model)  # compiles
    batch = model.batch(RUNS)
    torch.cuda.set_sync_debug_mode("error")
    try:
        with model.route(batch, Draw((1, 2), (3, 4))):
            model.losses(batch).sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
