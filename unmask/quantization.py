"""Linear layers in 4 bits, and the same layers with their 4-bit weights written out again.

bitsandbytes writes the weights of a 4-bit layer out anew in every pass, forward and backward.
Where memory allows they can stay written out ("resident"): the numbers are the same, rounded to
sixteen levels a block, and no step pays for them again. 4 bits then save no memory, and results
stay those of a quantised backbone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from transformers.quantizers.base import HfQuantizer

from unmask.kernels import dequantize_nf4

SHARE_OF_FREE_MEMORY = 0.5
"""What resident weights may take of it: activations, adapters and the optimizer need the rest."""


def quantize_linears(model: nn.Module, compute_dtype: torch.dtype) -> None:
    """Replace every linear layer by bitsandbytes' NF4 layer with double quantisation."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for name, module in list(model.named_modules()):
        if type(module) is not nn.Linear:
            continue
        replacement = Linear4bit(
            module.in_features,
            module.out_features,
            bias=module.bias is not None,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",  # its own weights would be drawn, on the CPU, and thrown away
        )
        settings: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}
        replacement.weight = Params4bit(module.weight.data, requires_grad=False, **settings)
        if module.bias is not None:
            replacement.bias = module.bias
        # On CPUs with AVX512-BF16 an evaluation pass would repack the weights in place: scales are
        # rounded, and the next training pass has no gradient below the layer.
        replacement.support_avx512bf16_for_cpu = False
        model.set_submodule(name, replacement.to(module.weight.device))


def written_out(weight: Any) -> Tensor:
    """The numbers [out_features, in_features] that bitsandbytes' `Params4bit` stands for."""
    state = weight.quant_state
    double: dict[str, Any] = {}
    if state.nested:
        double = {
            "absmax_levels": state.state2.code,
            "absmax_scale": state.state2.absmax,
            "absmax_offset": state.offset,
            "absmax_block_size": state.state2.blocksize,
        }
    shape = tuple(state.shape)
    return dequantize_nf4(weight.data, state.absmax, shape, state.dtype, state.blocksize, **double)


def make_resident(
    model: nn.Module,
    compute_dtype: torch.dtype,
    which: Callable[[Any], bool] = lambda module: True,
) -> None:
    """Replace NF4 layers by plain linear layers with the numbers that they compute with.

    Args:
        model: with NF4 layers.
        compute_dtype: of the plain layers.
        which: tells of a layer whether to replace it; all are by default.
    """
    for name, module in _quantized_linears(model):
        if not which(module):
            continue
        weight = written_out(module.weight).to(compute_dtype)
        has_bias = module.bias is not None
        plain = nn.Linear(module.in_features, module.out_features, has_bias, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        if has_bias:
            plain.bias = nn.Parameter(module.bias.data.to(compute_dtype), requires_grad=False)
        model.set_submodule(name, plain.train(module.training))
    quantizer = getattr(model, "hf_quantizer", None)
    if isinstance(quantizer, HfQuantizer) and not _quantized_linears(model):
        quantizer.remove_quantization_config(model)


def settle_residence(model: nn.Module, compute_dtype: torch.dtype, resident: bool | None) -> str:
    """Write the 4-bit weights out for good where asked, or where there is memory for it.

    Args:
        model: with NF4 layers, on its device.
        compute_dtype: dtype of the resident weights.
        resident: None: when they take at most half of the free memory.

    Returns:
        What was done and why, in words.
    """
    linears = _quantized_linears(model)
    weights = sum(module.in_features * module.out_features for _, module in linears)
    needed = weights * compute_dtype.itemsize
    free = _free_memory(next(model.parameters()).device)
    name = str(compute_dtype).removeprefix("torch.")
    sizes = f"{needed / 2**30:.1f} GiB in {name}, {free / 2**30:.1f} GiB free"
    reason = "as asked"
    if resident is None:
        resident = needed <= SHARE_OF_FREE_MEMORY * free
        reason = "memory allows it" if resident else "memory is short"
    if not resident:
        make_resident(model, compute_dtype, _is_misread)
        return f"NF4 weights are written out anew in every pass: {reason} ({sizes})"
    make_resident(model, compute_dtype)
    return f"NF4 weights stay written out, the same numbers: {reason} ({sizes})"


def make_shardable(model: nn.Module, device: torch.device) -> None:
    """Let FSDP spread the 4-bit weights of `model` over processes, on `device`.

    It wraps parameters anew, so that what bitsandbytes keeps on them is lost; what is kept on the
    layer beside them is not. Older releases of it take floating-point numbers only, so the bytes
    are called that; bitsandbytes reads them as bytes all the same.
    """
    from bitsandbytes.nn.modules import Params4bit

    for _, module in _quantized_linears(model):
        state, storage = module.weight.quant_state, torch.bfloat16
        state.to(device)  # in place; FSDP moves the weights
        module.quant_state, module.quant_storage = state, storage
        data = module.weight.data.flatten().view(storage)[:, None]
        settings: dict[str, Any] = {
            "quant_state": state,
            "quant_storage": storage,
            "bnb_quantized": True,
        }
        module.weight = Params4bit(data, **settings)


def bitsandbytes_config(compute_dtype: torch.dtype) -> Any:
    """The same format for transformers to quantise to while it loads."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
    )


def _quantized_linears(model: nn.Module) -> list[tuple[str, Any]]:
    from bitsandbytes.nn.modules import Linear4bit

    return [(name, m) for name, m in model.named_modules() if isinstance(m, Linear4bit)]


def _is_misread(module: Any) -> bool:
    """Is this a layer that bitsandbytes would compute wrongly?

    Its kernel for CPUs with AVX512 (seen in 0.50.2) takes every row to begin a block of scales,
    so it misreads layers whose rows are no whole number of blocks.
    """
    weight = module.weight
    return weight.device.type == "cpu" and module.in_features % weight.quant_state.blocksize != 0


def _free_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
