"""Arithmetic that Triton's interpreter needs help with, and whether it is at work.

With TRITON_INTERPRET=1 in the environment before Triton is imported, kernels run on the CPU in
numpy, which has no bfloat16: there a product multiplies bit patterns and a conversion cuts bits
off, both silently (seen in Triton 3.6 and 3.9). EMULATE goes round both; compiled kernels never
set it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def product(a, b, EMULATE: tl.constexpr):
    """Matrix product summed in float32; float32 operands are not rounded to tf32.

    EMULATE is for bfloat16 in Triton's interpreter, which multiplies the bit patterns.
    """
    if EMULATE:
        result = tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    else:
        result = tl.dot(a, b, input_precision="ieee")
    return result


@triton.jit
def narrow(x, dtype: tl.constexpr, EMULATE: tl.constexpr):
    """float32 `x` rounded to the nearest of `dtype`, ties to even.

    EMULATE is for bfloat16 in Triton's interpreter, which cuts the lower bits off.
    """
    if EMULATE:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = bits.to(tl.float32, bitcast=True)
    return x.to(dtype)


INTERPRETED = not isinstance(product, triton.JITFunction)
"""Whether Triton interprets its kernels, which then take tensors on the CPU."""


def must_emulate(dtype: torch.dtype) -> bool:
    """The value of EMULATE for kernels that compute with `dtype`."""
    return INTERPRETED and dtype == torch.bfloat16
