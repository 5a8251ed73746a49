"""What only a CUDA device can show; the properties themselves are tested in the files beside."""

import pytest
import torch
import torch.nn.functional as F

from unmask import kernels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture(autouse=True)
def _triton():
    pytest.importorskip("triton", reason="Triton is not installed")


def draw(tokens, heads=8, kv_heads=2, head_dim=64, dtype=torch.bfloat16):
    generator = torch.Generator("cuda").manual_seed(0)
    query, key, value = (
        torch.randn(tokens, h, head_dim, generator=generator, device="cuda", dtype=dtype)
        for h in (heads, kv_heads, kv_heads)
    )
    return query, key, value


def offsets(lengths):
    return torch.tensor([0, *lengths]).cumsum(0).int().cuda()


def with_gradients(tensors, *call):
    leaves = [x.detach().requires_grad_() for x in tensors]
    output = kernels.varlen_attention(*leaves, *call)
    return [output.detach(), *torch.autograd.grad(output.square().sum(), leaves)]


def test_the_dispatcher_takes_the_compiled_kernel(monkeypatch):
    from unmask.kernels.interpreter import INTERPRETED

    monkeypatch.setattr(kernels, "_attention_rectangles", None)
    causal = torch.tensor([True, False], device="cuda")
    out = kernels.varlen_attention(*draw(9), offsets([4, 5]), 5, causal, 0.1)
    assert not INTERPRETED
    assert out.isfinite().all()


def test_float64_takes_the_path_that_knows_it():
    causal = torch.tensor([True], device="cuda")
    out = kernels.varlen_attention(*draw(9, dtype=torch.float64), offsets([9]), 9, causal, 0.1)
    assert out.dtype == torch.float64


def test_nothing_waits_for_the_device():
    lengths = [70, 3, 25]
    call = (offsets(lengths), 70, torch.tensor([True, False, True], device="cuda"), 0.1)
    tensors = draw(sum(lengths))
    with_gradients(tensors, *call)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        with_gradients(tensors, *call)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("longest", [25, 70])
def test_both_passes_can_be_captured_in_a_graph(longest):
    lengths = [longest, 3, 40 if longest > 40 else 20]
    causal = torch.tensor([True, False, True], device="cuda")
    call = (offsets(lengths), longest, causal, 0.1)
    tensors = draw(sum(lengths))
    expected = with_gradients(tensors, *call)  # compiles
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        with_gradients(tensors, *call)
    torch.cuda.current_stream().wait_stream(stream)
    with torch.cuda.graph(graph):
        captured = with_gradients(tensors, *call)
    graph.replay()
    for ours, eager in zip(captured, expected, strict=True):
        assert torch.equal(ours, eager)


def test_thousands_of_sentences_give_the_bits_of_each_alone():
    lengths = [1 + index * 7 % 90 for index in range(2000)]
    flags = torch.arange(len(lengths), device="cuda") % 2 == 0
    tensors = draw(sum(lengths))
    packed = with_gradients(tensors, offsets(lengths), max(lengths), flags, 0.1)
    start = 0
    for index, length in enumerate(lengths):
        rows = slice(start, start + length)
        start += length
        if index % 97:
            continue
        alone = with_gradients(
            [x[rows] for x in tensors], offsets([length]), length, flags[index : index + 1], 0.1
        )
        for ours, expected in zip(packed, alone, strict=True):
            assert torch.equal(ours[rows], expected), index


def exact(tensors, causal, block=1024):
    """Output and gradients of its squares' sum in float64, some queries at a time."""
    query, key, value = (x.detach().double().requires_grad_() for x in tensors)
    outputs = []
    for first in range(0, len(query), block):
        scores = 0.125 * torch.einsum("qhd,kod->hqk", query[first : first + block], key)
        if causal:
            seen = torch.ones_like(scores, dtype=torch.bool).tril(first)
            scores = scores.masked_fill(~seen, float("-inf"))
        outputs.append(torch.einsum("hqk,kod->qhd", scores.softmax(-1), value))
        outputs[-1].square().sum().backward()
    output = torch.cat([x.detach() for x in outputs])
    return [output, query.grad, key.grad, value.grad]


@pytest.mark.parametrize("causal", [True, False])
def test_a_sentence_of_32k_tokens_is_as_exact_as_sdpa(causal):
    length = 32 * 1024
    tensors = draw(length, heads=2, kv_heads=1, dtype=torch.float32)
    flags = torch.tensor([causal], device="cuda")
    ours = with_gradients(tensors, offsets([length]), length, flags, 0.125)
    leaves = [x.detach().requires_grad_() for x in tensors]
    q, k, v = (x.transpose(0, 1)[None] for x in leaves)
    k, v = (x.expand(1, 2, -1, -1) for x in (k, v))
    output = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.125)
    output = output[0].transpose(0, 1)
    theirs = [output.detach(), *torch.autograd.grad(output.square().sum(), leaves)]
    for right, *found in zip(exact(tensors, causal), ours, theirs, strict=True):
        gaps = [((x - right).abs().max() / right.abs().max()).item() for x in found]
        # Sums of 32k terms in float32: PyTorch's error is the measure, 5e-6 holds below.
        assert gaps[0] <= max(5e-6, 2 * gaps[1])
