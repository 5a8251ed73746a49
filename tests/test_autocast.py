"""Labelers, unmasked stock models and the operations below both, inside `torch.autocast`."""

import pytest
import torch

from unmask import kernels
from unmask.attention import install
from unmask.config import UnmaskConfig
from unmask.kernels.dropout import Dropout

NUM_LAYERS = 4
IDS = torch.arange(5, 37).reshape(2, 16)
LABELS = IDS % 5


def autocast(enabled=True):
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled)


def relative_error(found, expected):
    """The largest over all gradients."""
    return max(float((found[n] - expected[n]).norm() / expected[n].norm()) for n in expected)


def labeler_step(labeler, forward_inside, backward_inside):
    labeler.zero_grad()
    labeler.num_forward_calls = 0
    with autocast(forward_inside):
        output = labeler(IDS, labels=LABELS)
    with autocast(backward_inside):
        output.loss.backward()
    return output, {name: p.grad.clone() for name, p in labeler.stacked_parameters().items()}


@pytest.mark.parametrize("forward_inside", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"dtype": "bfloat16"}, {"quantization": "nf4"}], ids=["float32", "bf16", "nf4"]
)
def test_a_labeler_trains_with_backward_inside_autocast_too(
    random_labeler, settings, forward_inside
):
    labeler = random_labeler(**settings).train()
    expected, gradients = labeler_step(labeler, False, False)
    output, found = labeler_step(labeler, forward_inside, True)
    assert torch.equal(output.loss, expected.loss)
    assert torch.equal(output.logits, expected.logits)
    # PyTorch's own backward of linear layers rounds to bfloat16 then, by 2**-9 at most: some fifty
    # one after the other, so about 7 * 2**-9.
    assert relative_error(found, gradients) < 2**-5


def stock_step(model, length, inside):
    model.zero_grad()
    ids = torch.arange(2 * length).reshape(2, length) % 59 + 5
    with autocast(inside):
        states = model(input_ids=ids, use_cache=False).last_hidden_state
        (states.float() * torch.linspace(-1, 1, 32)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {**gradients, "states": states.detach().float()}


@pytest.mark.parametrize("length", [9, 150])  # written out, and by PyTorch's fused attention
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_an_unmasked_stock_model_rounds_no_more_than_the_stock_one(build, name, length):
    model = build(name, initializer_range=0.1, max_position_embeddings=160)
    exact, stock = stock_step(model, length, False), stock_step(model, length, True)
    install(model, UnmaskConfig.from_code("0000", NUM_LAYERS))
    ours = stock_step(model, length, True)
    allowed = relative_error(stock, exact)
    assert 1e-4 < allowed < 0.1
    assert relative_error(ours, exact) < 1.5 * allowed


def attention(x):
    angles = torch.linspace(0, 3, 20).reshape(5, 4)
    q, k, v = x.reshape(9, 3, 8).split(1, dim=1)
    sentences = torch.tensor([0, 4, 9], dtype=torch.int32), 5, torch.tensor([True, False])
    return kernels.varlen_attention(
        q, k, v, *sentences, 0.5, cos=angles.cos(), sin=angles.sin()
    ).flatten(1)


def lora(x):
    shapes = (2, 3, 24), (2, 24, 3)
    a, b = (torch.linspace(-1, 1, 144).reshape(shape) for shape in shapes)
    dropout = Dropout(0.25, (1, 2))
    return kernels.grouped_lora(
        x, x, a, b, torch.tensor([0, 4, 9], dtype=torch.int32), 0.7, dropout
    )


def norm(x):
    return kernels.rms_norm(x, torch.linspace(0.5, 2, 24), 1e-5)


@pytest.mark.parametrize("operation", [attention, lora, norm])
def test_an_operation_gives_the_same_bits_inside_autocast(operation):
    def step(inside):
        x = torch.linspace(-2, 3, 9 * 24).sin().reshape(9, 24).requires_grad_()
        with autocast(inside):
            out = operation(x)
            (gradient,) = torch.autograd.grad(out.square().sum(), x)
        return out, gradient

    for inside, outside in zip(step(True), step(False), strict=True):
        assert inside.dtype == torch.float32
        assert torch.equal(inside, outside)
