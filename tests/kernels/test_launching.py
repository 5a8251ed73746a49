"""Kernels are found again by short keys, which tell apart all that Triton compiles for."""

import random
from functools import cache

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from unmask.kernels import launching
from unmask.kernels.attention_backward import varlen_attention
from unmask.kernels.launching import Launcher, Options

HOPPER = GPUTarget("cuda", 90, 32)
LAYOUTS = {
    "dense": lambda t, h, d, **as_: torch.empty(t, h, d, **as_),
    "heads first": lambda t, h, d, **as_: torch.empty(h, t, d, **as_).transpose(0, 1),
    "part of a row": lambda t, h, d, **as_: torch.empty(t, h + 3, d, **as_)[:, :h],
    "begins anywhere": lambda t, h, d, **as_: torch.empty(t * h * d + 1, **as_)[1:].view(t, h, d),
    "odd rows": lambda t, h, d, **as_: torch.empty(t, h * d + 1, **as_)[:, 1:].unflatten(1, (h, d)),
    "one head for all": lambda t, h, d, **as_: torch.empty(t, 1, d, **as_).expand(t, h, d),
    "features apart": lambda t, h, d, **as_: torch.empty(t, d, h, **as_).transpose(1, 2),
}


def draw_call(draw: random.Random) -> tuple[list[torch.Tensor], torch.Tensor, dict]:
    """Query, key and value, the gradient from above, and the other arguments of a random call."""
    lengths = [1, *(draw.choice([0, 5, 70]) for _ in range(draw.choice([1, 15])))]
    heads, kv_heads = draw.choice([(1, 1), (2, 1), (2, 2), (16, 1), (16, 16), (32, 16)])
    head_dim = draw.choice([16, 32, 80, 128])
    dtype = draw.choice([torch.float32, torch.float16, torch.bfloat16])
    monotonous = draw.random() < 0.5
    torch.set_default_dtype(dtype)
    *leaves, grad = (
        LAYOUTS["dense" if monotonous else draw.choice(list(LAYOUTS))](
            sum(lengths), count, head_dim
        )
        for count in (heads, kv_heads, kv_heads, heads)
    )
    torch.set_default_dtype(torch.float32)
    longest = draw.choice([max(lengths), 64 + max(lengths), 5000])
    call = {
        "cu_seqlens": torch.tensor([0, *lengths])
        .cumsum(0)
        .to(draw.choice([torch.int32, torch.int64])),
        "max_seqlen": longest,
        "causal": torch.zeros(len(lengths), draw.choice([1, 16, 17]), dtype=torch.bool)[:, 0],
        "scale": draw.choice([1, 0.1]),
        "window": draw.choice([None, None, 1, 16, 2**40]),
        "softcap": draw.choice([None, 1, 30.0]),
    }
    if draw.random() < 0.6:
        begin = draw.choice([0, 1])
        tables = torch.zeros(2, begin + longest * head_dim // 2)[:, begin:]
        call["cos"], call["sin"] = tables.to(draw.choice([torch.float32, torch.bfloat16])).view(
            2, longest, -1
        )
    return [x.requires_grad_() for x in leaves], grad, call


@cache
def binder_of(launcher: Launcher):
    """Triton's own look at the arguments of a kernel, interpreted here or not."""
    kernel = launcher.kernel
    if not isinstance(kernel, JITFunction):
        kernel = JITFunction(kernel.fn, **kernel.kwargs)
    return create_function_from_signature(kernel.signature, kernel.params, make_backend(HOPPER))


def test_calls_of_one_key_are_one_kernel_to_triton(monkeypatch):
    launches = []

    def keep(self, grid, key, arguments, constants, options):
        launches.append((self, (key, constants, options), (*arguments, *constants)))

    monkeypatch.setattr(Launcher, "__call__", keep)
    draw = random.Random(0)
    kinds: dict[tuple, list] = {}
    total = 0
    for _ in range(1000):
        leaves, grad, call = draw_call(draw)
        query, key, value = leaves
        output = varlen_attention(query, key, value, **call)
        torch.autograd.grad(output, leaves, grad)
        for launcher, launch_key, arguments in launches:
            _, kind, _ = binder_of(launcher)(*arguments)
            known = kinds.setdefault((launcher, launch_key), kind)
            assert known == kind, (launcher.kernel, launch_key)
        total += len(launches)
        launches.clear()
    assert len({launcher for launcher, _ in kinds}) == 6
    assert total > 1.1 * len(kinds)  # else no key came up twice


class Stub(CompiledKernel):
    """What a kernel was compiled to, which says so when it is launched."""

    def __init__(self, log, name):
        self.log, self.name = log, name
        self.module = None

    def __getitem__(self, grid):
        return lambda *args, stream=None: self.log.append((self.name, grid, args))


class Kernel:
    """Compiles another one for every call; `compile` False: as interpreted, gives none."""

    def __init__(self, log, compiles=True):
        self.log, self.compiles, self.count = log, compiles, 0

    def __getitem__(self, grid):
        def launch(*arguments, **keywords):
            self.log.append(("kernel", grid, arguments, keywords))
            self.count += 1
            return Stub(self.log, f"compiled {self.count}") if self.compiles else None

        return launch


KEYWORDS = {"num_warps": 4, "num_stages": 2, "enable_fp_fusion": True}


def test_a_key_is_compiled_once_and_then_launched_with_what_is_given():
    log = []
    launch = Launcher(Kernel(log))
    launch((3, 1, 1), "key", (10, 20), (True,), Options(4, 2))
    launch((5, 2, 1), "key", (11, 21), (True,), Options(4, 2))
    assert log == [
        ("kernel", (3, 1, 1), (10, 20, True), KEYWORDS),
        ("compiled 1", (5, 2, 1), (11, 21, True)),
    ]


@pytest.mark.parametrize(
    "other",
    [
        ("other", (True,), Options(4, 2)),
        ("key", (False,), Options(4, 2)),
        ("key", (True,), Options(8, 2)),
    ],
    ids=["key", "constants", "options"],
)
def test_another_key_constant_or_option_is_compiled_anew(other):
    log = []
    launch = Launcher(Kernel(log))
    launch((3, 1, 1), "key", (10,), (True,), Options(4, 2))
    key, constants, options = other
    launch((3, 1, 1), key, (10,), constants, options)
    assert [entry[0] for entry in log] == ["kernel", "kernel"]


def test_an_interpreted_kernel_is_always_launched_through_triton():
    log = []
    launch = Launcher(Kernel(log, compiles=False))
    for _ in range(2):
        launch((3, 1, 1), "key", (10,), (True,), Options(4, 2))
    assert [entry[0] for entry in log] == ["kernel", "kernel"]


def test_layouts_that_change_with_every_pack_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(launching, "MOST_KEPT", 3)
    launch = Launcher(Kernel([]))
    for key in range(10):
        launch((3, 1, 1), key, (10,), (True,), Options(4, 2))
    assert len(launch._compiled) <= 3
