"""Launching a Triton kernel again without having it looked up by every argument.

`kernel[grid](...)` finds what it compiled by the type of each argument, by the properties that it
compiles for and by every constant: some 20 us of Python for the forty arguments of packed
attention, four times what the launch takes, and a layer has ten. Here a short key finds it. Triton
means what `kernel[grid](...)` returns to be launched by itself (its tutorial on a fused softmax
does, and its maintainers advise it, triton-lang/triton#6064).

The easy mistake is a key without something that Triton compiled for, which launches a kernel that
is wrong for the arguments. That is: constants and options, which are always part of it; of a tensor
its dtype and whether its address is a multiple of 16; and of an integer that is not named in
`do_not_specialize` whether it is 1 or a multiple of 16. A test holds the keys of packed attention
to what Triton itself tells apart. Settings of Triton (TRITON_DEBUG) are those of the first launch.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

from torch import Tensor
from triton.compiler import CompiledKernel

MOST_KEPT = 256
"""Keys that a kernel remembers; beyond, it forgets all: layouts may change with every pack."""


class Options(NamedTuple):
    """How a kernel is laid out on the device."""

    num_warps: int
    num_stages: int

    def keywords(self) -> dict[str, Any]:
        """Of a launch; fusion is named because Triton's default is about to change."""
        return {**self._asdict(), "enable_fp_fusion": True}


class Operands(NamedTuple):
    """Tensors that a kernel reaches by their first two strides, its last one being 1."""

    tensors: tuple[Tensor, ...]
    strides: list[int]
    key: tuple[Hashable, ...]


def operands(*tensors: Tensor) -> Operands:
    """Tensors [tokens, heads, head_dim] with what a kernel is told and compiled for."""
    strides, key = [], []
    for x in tensors:
        stride = x.stride()
        strides += stride[:2]
        key.append((x.dtype, stride, x.data_ptr() % 16))
    return Operands(tensors, strides, tuple(key))


def dense_key(*tensors: Tensor | None) -> tuple[Hashable, ...]:
    """What a kernel is compiled for of tensors whose strides it does not take."""
    return tuple([None if x is None else (x.dtype, x.data_ptr() % 16) for x in tensors])


class Launcher:
    """Launches one kernel whose constants are the last of its parameters."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._compiled: dict[Hashable, Any] = {}

    def __call__(
        self,
        grid: tuple[int, int, int],
        key: Hashable,
        arguments: tuple[Any, ...],
        constants: tuple[Any, ...],
        options: Options,
    ) -> None:
        """On the current device and stream.

        Args:
            grid: programs.
            key: the device, and whatever else the kernel is compiled for beside constants and
                options: see the head of this file.
            arguments: in the order of the kernel's parameters.
            constants: the parameters that follow.
            options: for the compiler.
        """
        key = (key, constants, options)
        compiled = self._compiled.get(key)
        if compiled is not None:
            compiled[grid](*arguments, *constants)
            return
        compiled = self.kernel[grid](*arguments, *constants, **options.keywords())
        if isinstance(compiled, CompiledKernel):  # not so where Triton interprets
            if len(self._compiled) >= MOST_KEPT:
                self._compiled.clear()
            self._compiled[key] = compiled
