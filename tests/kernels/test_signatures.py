"""Every implementation of a kernel can be called in place of every other."""

import importlib
import inspect

import pytest

from unmask import kernels

IMPLEMENTATIONS = {
    "varlen_attention": ["attention_reference", "attention_rectangles", "attention_backward"],
    "dequantize_nf4": ["nf4_reference", "nf4_triton"],
    "grouped_lora": ["lora_reference", "lora_batched", "lora_triton"],
    "grouped_linear": ["lora_batched", "lora_triton"],
    "dropped": ["lora_batched", "lora_triton"],
    "rms_norm": ["rows_reference", "rows_pytorch", "rows_triton"],
    "swiglu": ["rows_reference", "rows_triton"],
}
TRITON = {"attention_backward", "nf4_triton", "lora_triton", "rows_triton"}


@pytest.mark.parametrize(
    ("op", "module"),
    [(op, module) for op, modules in IMPLEMENTATIONS.items() for module in modules],
)
def test_kernel_and_reference_share_one_signature(op, module):
    if module in TRITON:
        pytest.importorskip("triton", reason="Triton is not installed")
    implementation = getattr(importlib.import_module(f"unmask.kernels.{module}"), op)
    assert inspect.signature(implementation) == inspect.signature(getattr(kernels, op))


def test_every_public_op_is_held_to_its_implementations():
    public = {name for name, value in vars(kernels).items() if inspect.isfunction(value)}
    assert {name for name in public if not name.startswith("_")} - {"cache"} == set(IMPLEMENTATIONS)
