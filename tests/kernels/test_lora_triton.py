"""Low-rank updates in Triton against the float64 definition: output and every gradient."""

import pytest
import torch

from unmask.kernels import lora_batched, lora_reference
from unmask.kernels.dropout import Dropout

CAPS = {torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 2.5e-2}
"""Largest error over the largest value: some roundings of sums of products of order 1."""

NAMES = ("output", "base", "x", "lora_a", "lora_b")

pytestmark = pytest.mark.usefixtures("nan_in_empty")


def triton_lora(*arguments):
    from unmask.kernels.lora_triton import grouped_lora

    return grouped_lora(*arguments)


def draw(counts, dtype, device, in_features=70, rank=5, out_features=66):
    """Base, tokens, float32 matrices as in training, and the gradient from above."""
    generator = torch.Generator().manual_seed(sum(counts))
    runs, tokens = len(counts), sum(counts)
    shapes = [(tokens, out_features), (tokens, in_features), (tokens, out_features)]
    base, x, grad = (torch.randn(s, generator=generator).to(device, dtype) for s in shapes)
    a, b = (
        torch.randn(s, generator=generator).to(device)
        for s in ((runs, rank, in_features), (runs, out_features, rank))
    )
    return [base, x, a, b, grad]


def results(function, tensors, offsets, dropout=None, scale=0.5):
    *leaves, grad = (x.detach() for x in tensors)
    leaves = [x.requires_grad_() for x in leaves]
    output = function(*leaves, offsets, scale, dropout)
    gradients = torch.autograd.grad(output, leaves, grad)
    return dict(zip(NAMES, (output.detach(), *gradients), strict=True))


def offsets_of(counts):
    return torch.tensor([0, *counts]).cumsum(0).int()


def keys_of(counts):
    return tuple((run * 2_654_435_769 + 7) % 2**32 for run in range(len(counts)))


@pytest.mark.parametrize("dtype", CAPS, ids=str)
@pytest.mark.parametrize("probability", [0.0, 0.3])
@pytest.mark.parametrize("counts", [(9,), (33, 0, 5)], ids=str)
def test_errors_stay_under_the_caps_and_near_pytorchs_own(
    triton_device, dtype, probability, counts
):
    dropout = Dropout(probability, keys_of(counts)) if probability else None
    tensors, offsets = draw(counts, dtype, triton_device), offsets_of(counts)
    # The definition takes the matrices as the kernels do: rounded to the dtype of the tokens.
    rounded = [x.to(dtype) for x in tensors]
    exact = results(lora_reference.grouped_lora, [x.double() for x in rounded], offsets, dropout)
    ours = results(triton_lora, tensors, offsets, dropout)
    theirs = results(lora_batched.grouped_lora, tensors, offsets, dropout)
    assert ours["lora_a"].dtype == ours["lora_b"].dtype == torch.float32
    for name, expected in exact.items():
        largest = expected.abs().max()
        error, peer = (
            ((found[name].double() - expected).abs().max() / largest).item()
            for found in (ours, theirs)
        )
        assert error <= CAPS[dtype], (name, error)
        assert error <= 2 * peer + 1e-5, (name, error, peer)


@pytest.mark.parametrize("dtype", CAPS, ids=str)
def test_a_long_sum_into_a_small_rank_is_cut_and_added_in_order(triton_device, dtype):
    counts = (5, 3)
    tensors, offsets = draw(counts, dtype, triton_device, 1090, 3, 1100), offsets_of(counts)
    rounded = [x.to(dtype).double() for x in tensors]
    dropout = Dropout(0.2, keys_of(counts))
    exact = results(lora_reference.grouped_lora, rounded, offsets, dropout)
    for name, actual in results(triton_lora, tensors, offsets, dropout).items():
        error = (actual.double() - exact[name]).abs().max() / exact[name].abs().max()
        assert error <= CAPS[dtype], name


def test_masks_are_those_of_every_other_implementation(triton_device):
    counts = (40, 3)
    dropout = Dropout(0.5, keys_of(counts))
    # Each token's update shows which of its features came through: they are one, A picks each.
    ones = torch.ones(sum(counts), 65, device=triton_device)
    picks = torch.eye(65, device=triton_device).repeat(2, 1, 1)
    out = triton_lora(torch.zeros_like(ones), ones, picks, picks, offsets_of(counts), 0.5, dropout)
    assert torch.equal(out, dropout.kept(offsets_of(counts), ones))


def test_the_later_part_of_a_run_drops_what_it_drops_in_the_whole(triton_device):
    key, begin = keys_of([1]), 37
    later = torch.tensor([[*key, begin]], dtype=torch.int32)
    base, x, a, b, grad = draw((70,), torch.float32, triton_device)
    whole = results(triton_lora, [base, x, a, b, grad], offsets_of([70]), Dropout(0.4, key))
    rest = [base[begin:], x[begin:], a, b, grad[begin:]]
    part = results(triton_lora, rest, offsets_of([70 - begin]), Dropout(0.4, later))
    for name in NAMES:
        if not name.startswith("lora"):
            torch.testing.assert_close(part[name], whole[name][begin:], msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_alone_and_fused_gives_the_same_bits(triton_device, dtype):
    counts = (7, 40, 9)
    keys = keys_of(counts)
    tensors = draw(counts, dtype, triton_device, in_features=1090)  # wide enough to be cut
    fused = results(triton_lora, tensors, offsets_of(counts), Dropout(0.3, keys))
    start = 0
    for run, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        base, x, a, b, grad = tensors
        own = [base[rows], x[rows], a[run : run + 1], b[run : run + 1], grad[rows]]
        dropout = Dropout(0.3, keys[run : run + 1])
        alone = results(triton_lora, own, offsets_of([count]), dropout)
        for name in NAMES:
            place = slice(run, run + 1) if name.startswith("lora") else rows
            assert torch.equal(alone[name], fused[name][place]), (name, run)


def test_repeated_calls_give_the_same_bits(triton_device):
    counts = (20, 13)
    tensors = draw(counts, torch.float16, triton_device)
    first, second = (
        results(triton_lora, tensors, offsets_of(counts), Dropout(0.1, keys_of(counts)))
        for _ in range(2)
    )
    for name in NAMES:
        assert torch.equal(first[name], second[name]), name


def test_nan_in_one_run_stays_there(triton_device):
    counts = (5, 6, 4)
    tensors = draw(counts, torch.float32, triton_device)
    clean = results(triton_lora, tensors, offsets_of(counts))
    tensors[1][5:11] = float("nan")
    poisoned = results(triton_lora, tensors, offsets_of(counts))
    assert poisoned["output"][5:11].isnan().all()
    healthy = [*range(5), *range(11, 15)]
    for name in NAMES:
        rows = [0, 2] if name.startswith("lora") else healthy
        assert torch.equal(poisoned[name][rows], clean[name][rows]), name


def test_tokens_in_any_memory_layout_are_taken(triton_device):
    counts = (6, 3)
    tensors = draw(counts, torch.float32, triton_device)
    strided = [x.T.contiguous().T if x.ndim == 2 else x for x in tensors]
    assert not strided[1].is_contiguous()
    expected = results(triton_lora, tensors, offsets_of(counts))
    for name, actual in results(triton_lora, strided, offsets_of(counts)).items():
        assert torch.equal(actual, expected[name]), name
