"""Packed attention in Triton against the float64 definition: outputs and every gradient.

On a CPU the kernels are interpreted, some seconds a case, so examples are few and small. With a
CUDA device the same tests draw larger ones, and every new kind of example is compiled first.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unmask.kernels import attention_reference

ON_GPU = torch.cuda.is_available()

CAPS = {torch.float32: 5e-6, torch.float16: 2e-3, torch.bfloat16: 2.5e-2}
"""Largest error over the largest value: some roundings of sums of products of order 1."""

pytestmark = pytest.mark.usefixtures("nan_in_empty")


@dataclass(frozen=True)
class Case:
    """One call; `lengths` may hold empty sentences."""

    lengths: tuple[int, ...]
    flags: tuple[bool, ...]
    heads: tuple[int, int] = (2, 1)
    head_dim: int = 64
    window: int | None = None
    softcap: float | None = None
    rotary: bool = False

    def draw(self, dtype, device, seed=0):
        """Query, key, value, and the gradient that comes from above."""
        generator = torch.Generator().manual_seed(seed)
        heads, kv_heads = self.heads
        tensors = [
            torch.randn(sum(self.lengths), h, self.head_dim, generator=generator)
            for h in (heads, kv_heads, kv_heads, heads)
        ]
        return [x.to(device, dtype) for x in tensors]

    def call(self, device) -> dict[str, Any]:
        """All other arguments."""
        cos = sin = None
        if self.rotary:
            speeds = 100.0 ** (-torch.arange(0, self.head_dim, 2) / self.head_dim)
            angles = torch.arange(max(self.lengths) + 3)[:, None] * speeds
            cos, sin = angles.cos().to(device), angles.sin().to(device)
        return {
            "cu_seqlens": torch.tensor([0, *self.lengths]).cumsum(0).int().to(device),
            "max_seqlen": max(self.lengths),
            "causal": torch.tensor(self.flags, device=device),
            "scale": self.head_dim**-0.5,
            "window": self.window,
            "softcap": self.softcap,
            "cos": cos,
            "sin": sin,
        }


@st.composite
def cases(draw):
    """Packs whose longest sentence has at least 8 tokens, so that no true gradient vanishes."""
    near_a_boundary = st.sampled_from([31, 32, 33, 63, 64, 65])
    longest = draw(st.integers(8, 700 if ON_GPU else 70) | near_a_boundary)
    short = st.integers(0, 200 if ON_GPU else 10) | near_a_boundary
    others = draw(st.lists(short, max_size=40 if ON_GPU else 3))
    lengths = draw(st.permutations([longest, *others]))
    flags = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    return Case(
        tuple(lengths),
        tuple(flags),
        heads=draw(st.sampled_from([(2, 1), (3, 3), (3, 1), (4, 2)])),
        head_dim=draw(st.sampled_from([32, 64, 80, 96, 128, 256] if ON_GPU else [32, 80, 96])),
        window=draw(st.none() | st.integers(2, 90)),
        softcap=draw(st.none() | st.floats(1, 50)),
        rotary=draw(st.booleans()),
    )


def triton_attention(*arguments, **keywords):
    from unmask.kernels.attention_backward import varlen_attention

    return varlen_attention(*arguments, **keywords)


def results(function, tensors, call):
    """Output and the gradients of query, key and value, by name."""
    *leaves, grad = (x.detach() for x in tensors)
    leaves = [x.requires_grad_() for x in leaves]
    output = function(*leaves, **call)
    gradients = torch.autograd.grad(output, leaves, grad)
    return dict(
        zip(("output", "query", "key", "value"), (output.detach(), *gradients), strict=True)
    )


def errors(actual, exact):
    return {
        name: ((actual[name].double() - x).abs().max() / x.abs().max()).item()
        for name, x in exact.items()
    }


def check(case: Case, dtype, device):
    tensors, call = case.draw(dtype, device), case.call(device)
    exact = results(attention_reference.varlen_attention, [x.double() for x in tensors], call)
    ours = results(triton_attention, tensors, call)
    theirs = results(attention_reference.varlen_attention, tensors, call)
    assert all(ours[name].dtype == dtype for name in ours)
    pytorch = errors(theirs, exact)
    for name, error in errors(ours, exact).items():
        assert error <= CAPS[dtype], (name, error)
        assert error <= 2 * pytorch[name] + 1e-5, (name, error, pytorch[name])


def pieces(tensors, lengths):
    return list(zip(*(x.split(list(lengths)) for x in tensors), strict=True))


@pytest.mark.parametrize("dtype", CAPS, ids=str)
@pytest.mark.parametrize(
    "case",
    [
        Case((1, 7, 25, 0, 40), (True, False, True, True, False), heads=(4, 2), rotary=True),
        Case((32, 33), (True, False), heads=(3, 1), head_dim=128, rotary=True),
        Case((64, 65), (False, True), head_dim=80, rotary=True, window=20, softcap=2.0),
    ],
    ids=["all-lengths", "group-of-three", "window-and-cap"],
)
def test_errors_stay_under_the_caps_and_near_pytorchs_own(triton_device, dtype, case):
    check(case, dtype, triton_device)


@pytest.mark.parametrize("dtype", CAPS, ids=str)
@settings(
    deadline=None,
    max_examples=1,  # many more in the slow test below
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_errors_stay_under_the_caps_over_any_pack(triton_device, dtype, case):
    check(case, dtype, triton_device)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", CAPS, ids=str)
@settings(
    deadline=None,
    max_examples=60 if ON_GPU else 15,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=cases())
def test_errors_stay_under_the_caps_over_many_packs(triton_device, dtype, case):
    check(case, dtype, triton_device)


@pytest.mark.parametrize("head_dim", [5, 96, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_any_head_size_is_padded_to_what_the_matrix_units_take(triton_device, head_dim, dtype):
    check(Case((9, 4), (False, True), head_dim=head_dim), dtype, triton_device)


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {"head_dim": 32}),
        (torch.bfloat16, {"window": 11}),
        (torch.float16, {"head_dim": 80}),
    ],
    ids=str,
)
def test_a_sentence_alone_and_in_any_pack_gives_the_same_bits(triton_device, dtype, settings):
    case = Case((70, 9, 17, 40), (False, False, True, True), rotary=True, **settings)
    tensors = case.draw(dtype, triton_device)
    packed = results(triton_attention, tensors, case.call(triton_device))
    together = pieces(packed.values(), case.lengths)
    for index, piece in enumerate(pieces(tensors, case.lengths)):
        single = Case(
            case.lengths[index : index + 1],
            case.flags[index : index + 1],
            rotary=True,
            **settings,
        )
        alone = results(triton_attention, piece, single.call(triton_device))
        for name, ours, expected in zip(packed, alone.values(), together[index], strict=True):
            assert torch.equal(ours, expected), (name, index)


def test_sentences_beyond_the_first_block_of_the_search_are_found(triton_device, monkeypatch):
    from unmask.kernels import attention_tiles

    monkeypatch.setattr(attention_tiles, "SEARCH_BLOCK", 8)
    lengths = (5, 0, 0, 0, 0, 0, 0, 3, 8, 0, 2)
    flags = tuple(index % 2 == 0 for index in range(len(lengths)))
    check(Case(lengths, flags, rotary=True), torch.float32, triton_device)


def test_few_programs_share_many_tiles(triton_device, monkeypatch):
    from unmask.kernels import attention_tiles

    case = Case((40, 0, 9, 33), (True, True, False, False), heads=(4, 2), head_dim=32, rotary=True)
    tensors, call = case.draw(torch.float32, triton_device), case.call(triton_device)
    many = results(triton_attention, tensors, call)
    monkeypatch.setattr(attention_tiles, "FEW_PROGRAMS", 3)
    few = results(triton_attention, tensors, call)
    for name in many:
        assert torch.equal(few[name], many[name]), name


def test_a_longest_sentence_that_is_not_there_changes_nothing(triton_device):
    case = Case((20, 40), (True, False), head_dim=32)
    tensors, call = case.draw(torch.float16, triton_device), case.call(triton_device)
    exact = results(triton_attention, tensors, call)
    spacious = results(triton_attention, tensors, {**call, "max_seqlen": 5000})
    for name in exact:
        assert torch.equal(spacious[name], exact[name]), name


@pytest.mark.parametrize(("longest", "kept"), [(64, False), (65, True)])
def test_the_output_is_kept_for_backward_only_where_a_sentence_is_long(
    triton_device, longest, kept
):
    case = Case((longest,), (True,), head_dim=32)
    *leaves, _ = case.draw(torch.float16, triton_device)
    leaves = [x.requires_grad_() for x in leaves]
    output = triton_attention(*leaves, **case.call(triton_device))
    node: Any = output.grad_fn
    saved = [x.data_ptr() for x in node.saved_tensors if x is not None]
    assert (output.data_ptr() in saved) == kept


@pytest.mark.parametrize("dtype", CAPS, ids=str)
def test_repeated_runs_give_the_same_bits(triton_device, dtype):
    case = Case((33, 5), (True, False), heads=(4, 2))
    tensors, call = case.draw(dtype, triton_device), case.call(triton_device)
    first, second = (results(triton_attention, tensors, call) for _ in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_nan_in_one_sentence_stays_there(triton_device, dtype):
    case = Case((5, 6, 40), (True, False, False))
    tensors = case.draw(dtype, triton_device)
    clean = results(triton_attention, tensors, case.call(triton_device))
    for x in tensors:
        x[5:11] = float("nan")
    poisoned = results(triton_attention, tensors, case.call(triton_device))
    healthy = [*range(5), *range(11, 51)]
    for name in clean:
        assert poisoned[name][5:11].isnan().all(), name
        assert torch.equal(poisoned[name][healthy], clean[name][healthy]), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_window_of_one_leaves_each_token_to_itself(triton_device, dtype):
    case = Case((3, 40), (True, False), window=1)
    tensors = case.draw(dtype, triton_device)
    ours = results(triton_attention, tensors, case.call(triton_device))
    _, _, value, grad = tensors
    assert torch.equal(ours["output"], value.repeat_interleave(2, dim=1))
    torch.testing.assert_close(ours["value"], grad.sum(dim=1, keepdim=True))
    for name in ("query", "key"):
        assert ours[name].abs().max() < 1e-4  # the softmax of one score has no slope


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_tensors_as_transformers_lays_them_out_need_no_copy(triton_device, dtype):
    case = Case((7, 12), (False, True), heads=(4, 2), rotary=True)
    tensors, call = case.draw(dtype, triton_device), case.call(triton_device)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors]
    assert not any(x.is_contiguous() for x in strided)
    flags = torch.stack([~call["causal"], call["causal"]], dim=1)[:, 1]
    expected = results(triton_attention, tensors, call)
    actual = results(triton_attention, strided, {**call, "causal": flags})
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


def test_tensors_that_begin_between_words_and_at_them_may_take_turns(triton_device):
    case = Case((7, 66), (False, True), head_dim=32, rotary=True)
    tensors, call = case.draw(torch.float16, triton_device), case.call(triton_device)
    shifted = [torch.cat([x.flatten()[:1], x.flatten()])[1:].view_as(x) for x in tensors]
    assert all(x.data_ptr() % 4 == 2 for x in shifted)
    expected = results(triton_attention, tensors, call)
    for again in (shifted, tensors):
        actual = results(triton_attention, again, call)
        for name, error in errors(actual, expected).items():
            assert error <= CAPS[torch.float16], (name, error)


def test_any_layout_of_the_last_axis_and_of_the_gradient_is_taken(triton_device):
    case = Case((6, 3), (False, True))
    (q, k, v, _), call = case.draw(torch.float32, triton_device), case.call(triton_device)
    expected = results(triton_attention, [q, k, v, torch.ones_like(q)], call)
    leaves = [x.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (q, k, v)]
    output = triton_attention(*leaves, **call)
    gradients = torch.autograd.grad(output.sum(), leaves)
    for actual, name in zip((output, *gradients), expected, strict=True):
        assert torch.equal(actual, expected[name]), name
