"""What the compiler makes of the kernels of a training step for a Hopper GPU; no GPU is needed.

    python benchmarks/kernel_resources.py [--head-dim 128] [--dtype bfloat16]

For every kernel and shape of its work: registers a thread, bytes spilled to memory, shared memory,
and which matrix instructions were chosen (HGMMA: a Hopper warpgroup's; HMMA: a warp's). Sizes are
those of Mistral-7B.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from unmask.kernels import (
    attention_backward,
    attention_forward,
    attention_halves,
    attention_short,
    attention_short_backward,
    lora_triton,
    rows_triton,
)
from unmask.kernels.attention_pack import longest_in_one_tile, padded_sizes
from unmask.kernels.attention_tiles import SEARCH_BLOCK, tiles_of
from unmask.kernels.interpreter import INTERPRETED

HOPPER = GPUTarget("cuda", 90, 32)
SHARED_MEMORY_LIMIT = 227 * 1024
HIDDEN, RANK = 4096, 64

TRITON_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
FLOATS = {"log_sum", "delta", "cos", "sin", "inverse"}
"""Tensors of float32 whatever the model computes in."""
INTEGERS = {"cu_seqlens", "run_offsets", "draws"}
SCALARS = {
    "scale": "fp32",
    "inner_scale": "fp32",
    "outer_scale": "fp32",
    "eps": "fp32",
    "way": "fp32",
}
TENSORS = {
    "query", "key", "value", "grad", "output", "grad_query", "grad_key", "grad_value",
    "turned_query", "turned_key",
    "x", "base", "out", "weight", "left", "right", "gate", "up", "grad_x", "grad_gate", "grad_up",
}  # fmt: skip


class Case(NamedTuple):
    """One kernel, the values of its constants, and its options."""

    kernel: Any
    shape: str
    constants: dict[str, Any]
    options: dict[str, Any]
    floats: frozenset[str] = frozenset()
    """More tensors of float32: trained weights and their gradients."""


def main() -> int:
    """Print the table; 1 when a kernel needs more shared memory than there is."""
    if INTERPRETED:
        print("unset TRITON_INTERPRET: interpreted kernels are not compiled")
        return 1
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--dtype", choices=TRITON_NAMES, default="bfloat16")
    parser.add_argument("--rotary", action="store_true", help="with the embedding fused")
    arguments = parser.parse_args()
    print(
        f"{'kernel':<20} {'shape':>10} {'warps':>5} {'regs':>5} {'spilt':>6} {'shared':>7}  matrix"
    )
    fits = True
    cases = [*attention_cases(arguments), *lora_cases(), *row_cases()]
    for case in cases:
        shared, registers, stack, matrix = compiled(case, TRITON_NAMES[arguments.dtype])
        fits &= shared <= SHARED_MEMORY_LIMIT
        print(
            f"{case.kernel.__name__.strip('_'):<20} {case.shape:>10} "
            f"{case.options['num_warps']:>5} {registers:>5} {stack:>6} {shared:>7}  {matrix}",
            flush=True,
        )
    return 0 if fits else 1


def attention_cases(arguments: argparse.Namespace) -> Iterator[Case]:
    """Of packed attention: sentences that are one tile, and those cut into tiles."""
    half, width = padded_sizes(arguments.head_dim)
    constants = {
        "GROUP": 4,
        "HEAD_DIM": arguments.head_dim,
        "HALF": half,
        "WIDTH": width,
        "SEARCH_BLOCK": SEARCH_BLOCK,
        "ROTARY": arguments.rotary,
        "HAS_WINDOW": False,
        "SOFTCAP": False,
        "EMULATE": False,
    }
    dtype = getattr(torch, arguments.dtype)
    above = longest_in_one_tile(arguments.head_dim, dtype)
    tables = {} if arguments.rotary else {"cos": None, "sin": None}
    for short in attention_short.short_classes(above, arguments.head_dim):
        for kernel, layout in (
            (attention_short._short_forward_kernel, short.forward),
            (attention_short_backward._short_backward_kernel, short.backward),
        ):
            own = constants | tables | {"BLOCK": short.block}
            yield Case(kernel, f"{short.block}", own, layout.keywords())
    if arguments.rotary:
        own = constants | {"BLOCK": attention_halves.BLOCK}
        shape = f"{attention_halves.BLOCK}x{arguments.head_dim}"
        options = attention_halves.OPTIONS.keywords()
        yield Case(attention_halves._turn_kernel, shape, own, options)
    tiles = tiles_of(arguments.head_dim, dtype)
    for kernel, tile in (
        (attention_forward._forward_kernel, tiles.forward),
        (attention_backward._grad_query_kernel, tiles.grad_query),
        (attention_backward._grad_key_kernel, tiles.grad_key),
    ):
        blocks = {"BLOCK_Q": tile.block_query, "BLOCK_K": tile.block_key}
        shape = f"{tile.block_query}x{tile.block_key}"
        yield Case(kernel, shape, constants | blocks, tile.options.keywords())


def lora_cases() -> Iterator[Case]:
    """Into the rank, out of it onto the frozen output, and the gradients of both matrices."""
    constants, options = _split_options(lora_triton._constants(torch.bfloat16))
    split = lora_triton.SPLIT_FEATURES
    for inside, outside, own, floats in (
        (HIDDEN, RANK, {"base": None, "HAS_BASE": False, "SPLIT": split}, {"weight", "out"}),
        (RANK, HIDDEN, {"HAS_BASE": True, "SPLIT": RANK}, {"weight"}),
    ):
        drop = {"DROP_INPUT": inside == HIDDEN, "DROP_OUTPUT": False}
        own |= {"IN": inside, "OUT": outside, **drop, **constants}
        shape = f"{inside}>{outside}"
        yield Case(lora_triton._linear_kernel, shape, own, options, frozenset(floats))
    own = {"SPLITS": HIDDEN // split, "SUM_BLOCK": lora_triton.SUM_BLOCK, "EMULATE": False}
    floats = frozenset({"parts"})
    yield Case(lora_triton._sum_kernel, str(lora_triton.SUM_BLOCK), own, options, floats)
    own = {"LEFT": RANK, "RIGHT": HIDDEN, "DROP_RIGHT": True, **constants}
    yield Case(lora_triton._outer_kernel, f"{RANK}x{HIDDEN}", own, options, frozenset({"out"}))


def row_cases() -> Iterator[Case]:
    """Norms of a hidden state, and the gated activation."""
    row = torch.empty(0, HIDDEN, dtype=torch.bfloat16)
    constants, options = _split_options(rows_triton._row(row))
    for kernel in (rows_triton._norm_kernel, rows_triton._norm_grad_kernel):
        yield Case(kernel, str(HIDDEN), constants, options)
    constants, options = _split_options(rows_triton._flat(row))
    for kernel in (rows_triton._swiglu_kernel, rows_triton._swiglu_grad_kernel):
        yield Case(kernel, str(rows_triton.BLOCK), constants, options)


def _split_options(keywords: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a launch: the kernel's constants, and what is for the compiler."""
    constants = {name: value for name, value in keywords.items() if name.isupper()}
    return constants, {name: value for name, value in keywords.items() if not name.isupper()}


def compiled(case: Case, element: str) -> tuple[int, int, int, str]:
    """Bytes of shared memory, registers, bytes of stack, matrix instructions of one kernel."""
    signature, aligned = {}, {}
    for place, name in enumerate(case.kernel.arg_names):
        signature[name] = _triton_type(name, case, element)
        is_stride = name.endswith("stride") and name != "causal_stride"
        if signature[name].startswith("*") or is_stride:
            aligned[(place,)] = [["tt.divisibility", 16]]
    constants = {name: x for name, x in case.constants.items() if name in signature}
    source = ASTSource(case.kernel, signature, constants, aligned)
    binary = triton.compile(source, target=HOPPER, options=case.options)
    usage = _cuobjdump("-res-usage", binary.asm["cubin"])
    code = _cuobjdump("-sass", binary.asm["cubin"])
    found = {name: len(re.findall(rf"\b{name}", code)) for name in ("HGMMA", "HMMA")}
    matrix = " ".join(f"{name} {count}" for name, count in found.items() if count) or "none"
    registers, stack = (int(re.findall(rf"{what}:(\d+)", usage)[0]) for what in ("REG", "STACK"))
    return binary.metadata.shared, registers, stack, matrix


def _triton_type(name: str, case: Case, element: str) -> str:
    if name in case.constants:
        return "constexpr"
    if name in FLOATS | case.floats:
        return "*fp32"
    if name in TENSORS:
        return f"*{element}"
    if name in INTEGERS:
        return "*i32"
    return "*u8" if name == "causal" else SCALARS.get(name, "i32")


def _cuobjdump(option: str, cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run(
            [tool, option, file.name], capture_output=True, text=True, check=True
        ).stdout


if __name__ == "__main__":
    sys.exit(main())
