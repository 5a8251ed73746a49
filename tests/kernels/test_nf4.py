"""4-bit weights to numbers: the same bits as bitsandbytes."""

import bitsandbytes.functional as bnb
import pytest
import torch

from unmask import kernels
from unmask.kernels import nf4_reference


def triton_nf4(*arguments, **keywords):
    from unmask.kernels.nf4_triton import dequantize_nf4

    return dequantize_nf4(*arguments, **keywords)


def quantized(shape, dtype, double, device="cpu"):
    """Arguments of `dequantize_nf4`, and what bitsandbytes makes of the same weights."""
    generator = torch.Generator().manual_seed(sum(shape))
    weights = (torch.randn(shape, generator=generator) * 0.02).to(device, dtype)
    packed, state = bnb.quantize_4bit(
        weights, blocksize=64, compress_statistics=double, quant_type="nf4"
    )
    arguments = {"packed": packed, "absmax": state.absmax, "shape": shape, "dtype": dtype}
    if double:
        assert state.state2 is not None
        arguments |= {
            "absmax_levels": state.state2.code,
            "absmax_scale": state.state2.absmax,
            "absmax_offset": state.offset,
            "absmax_block_size": state.state2.blocksize,
        }
    return arguments, bnb.dequantize_4bit(packed, state)


pytestmark = [
    pytest.mark.usefixtures("nan_in_empty"),
    pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str),
    pytest.mark.parametrize("double", [False, True], ids=["single", "double"]),
    # One block; a block cut short; several programs; more than one block of scales.
    pytest.mark.parametrize("shape", [(1, 64), (3, 7), (130, 66)], ids=str),
]


@pytest.mark.parametrize(
    "implementation",
    [
        pytest.param(kernels.dequantize_nf4, id="public"),
        pytest.param(nf4_reference.dequantize_nf4, id="reference"),
    ],
)
def test_look_up_equals_bitsandbytes_bit_for_bit(implementation, dtype, double, shape):
    arguments, expected = quantized(shape, dtype, double)
    assert torch.equal(implementation(**arguments), expected)


def test_triton_equals_bitsandbytes_bit_for_bit(triton_device, dtype, double, shape):
    arguments, expected = quantized(shape, dtype, double, triton_device)
    assert torch.equal(triton_nf4(**arguments), expected)
