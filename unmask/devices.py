"""Which device to compute on."""

from __future__ import annotations

import torch


def choose_device(
    device: str | torch.device | None,
    dtype: str | torch.dtype = "float32",
    quantization: str | None = None,
) -> str:
    """The device asked for, or the fastest that can hold such weights: cuda, mps, cpu.

    Apple's GPUs know neither bitsandbytes' 4-bit weights nor float64.

    Raises:
        ValueError: for a device that is unknown or not there.
    """
    mps = torch.backends.mps.is_available()
    is_double = str(dtype).removeprefix("torch.") == "float64"
    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if mps and quantization is None and not is_double else "cpu"
    name = str(device)
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or not (index or "0").isdecimal():
        raise ValueError(f"unknown device {name!r}; give cpu, cuda, cuda:1 or mps")
    count = {"cuda": torch.cuda.device_count(), "mps": int(mps)}
    if int(index or 0) >= count.get(kind, 1):
        raise ValueError(
            f"there is no device {name}: PyTorch sees {count.get(kind, 1)} of its kind"
        )
    if kind == "mps" and is_double:
        raise ValueError("mps has no float64: give another --dtype or --device cpu")
    return name
