"""What the compiler makes of the attention kernels for a Hopper GPU; no GPU is needed.

    python benchmarks/kernel_resources.py [--head-dim 128] [--dtype bfloat16]

For every kernel and class of sentence lengths: registers a thread, bytes spilled to memory, shared
memory, and which matrix instructions were chosen (HGMMA: a Hopper warpgroup's; HMMA: a warp's).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from unmask.kernels import attention_backward, attention_forward
from unmask.kernels.attention_tiles import SEARCH_BLOCK, Tile, length_classes, padded_sizes
from unmask.kernels.interpreter import INTERPRETED

HOPPER = GPUTarget("cuda", 90, 32)
SHARED_MEMORY_LIMIT = 227 * 1024
POINTERS = {"log_sum": "*fp32", "delta": "*fp32", "cos": "*fp32", "sin": "*fp32"} | {
    "cu_seqlens": "*i32",
    "causal": "*u8",
}
TENSORS = {"query", "key", "value", "grad", "output", "grad_query", "grad_key", "grad_value"}
TRITON_NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


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
    print(f"{'kernel':<20} {'tile':>8} {'warps':>5} {'regs':>5} {'spilt':>6} {'shared':>7}  matrix")
    fits = True
    classes = length_classes(arguments.head_dim, getattr(torch, arguments.dtype), 10_000)
    for lengths in classes:
        for kernel, tile in (
            (attention_forward._forward_kernel, lengths.forward),
            (attention_backward._grad_query_kernel, lengths.grad_query),
            (attention_backward._grad_key_kernel, lengths.grad_key),
        ):
            shared, registers, stack, matrix = compiled(kernel, tile, arguments)
            fits &= shared <= SHARED_MEMORY_LIMIT
            shape = f"{tile.block_query}x{tile.block_key}"
            name = kernel.__name__.strip("_")
            print(
                f"{name:<20} {shape:>8} {tile.num_warps:>5} {registers:>5} {stack:>6} "
                f"{shared:>7}  {matrix}",
                flush=True,
            )
    return 0 if fits else 1


def compiled(kernel: Any, tile: Tile, arguments: argparse.Namespace) -> tuple[int, int, int, str]:
    """Bytes of shared memory, registers, bytes of stack, matrix instructions of one kernel."""
    options = tile.options()
    half, width = padded_sizes(arguments.head_dim)
    constants = {name: options.pop(name) for name in ("BLOCK_Q", "BLOCK_K")} | {
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
    if not arguments.rotary:
        constants |= {"cos": None, "sin": None}
    signature, aligned = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = _triton_type(name, constants, TRITON_NAMES[arguments.dtype])
        is_stride = name.endswith("stride") and name != "causal_stride"
        if signature[name].startswith("*") or is_stride:
            aligned[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, aligned)
    binary = triton.compile(source, target=HOPPER, options=options)
    usage = _cuobjdump("-res-usage", binary.asm["cubin"])
    code = _cuobjdump("-sass", binary.asm["cubin"])
    found = {name: len(re.findall(rf"\b{name}", code)) for name in ("HGMMA", "HMMA")}
    matrix = " ".join(f"{name} {count}" for name, count in found.items() if count) or "none"
    registers, stack = (int(re.findall(rf"{what}:(\d+)", usage)[0]) for what in ("REG", "STACK"))
    return binary.metadata.shared, registers, stack, matrix


def _triton_type(name: str, constants: dict[str, Any], element: str) -> str:
    if name in constants:
        return "constexpr"
    if name in TENSORS:
        return f"*{element}"
    return POINTERS.get(name, "fp32" if name.endswith("scale") else "i32")


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
