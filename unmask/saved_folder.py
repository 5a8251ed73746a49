"""What a saved folder holds, read as if a stranger had written it: nothing in it is believed.

Files are bounded in size before they are read, values are checked before anything is made of
them, and the shapes of tensors are compared with what they must be before one of them is loaded.
The one thing that is easy to get wrong is the order: a rank of a billion must be refused before
memory is asked for that many rows, so `check_adapter` runs before the labeler is built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unmask.config import UnmaskConfig
from unmask.lora import LoraSettings

CONFIG_FILE = "unmask_config.json"
ADAPTER_FILE = "adapter_model.safetensors"
PEFT_CONFIG_FILE = "adapter_config.json"
FORMAT_VERSION = 1

MAX_CONFIG_BYTES = 2**22
"""unmask_config.json has a name per label and a flag per layer: kilobytes."""
MAX_SUBTOKENS = 2**20

Shapes = Mapping[str, tuple[int, ...]]


def read_config(folder: Path) -> dict[str, Any]:
    """unmask_config.json, as the types that its parts stand for.

    Raises:
        ValueError: when it is missing, too large, no JSON, or not what `save_pretrained` writes.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no {CONFIG_FILE}, so nothing says which layers look right; loading it "
            "anyway would silently give a causal model"
        )
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes, so it is none of ours")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} is not of format version {FORMAT_VERSION}")
    try:
        return _typed(config)
    except KeyError as error:
        raise ValueError(f"{path} lacks {error}") from error
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path} is not what save_pretrained writes: {error}") from error


def _typed(config: dict[str, Any]) -> dict[str, Any]:
    """The parts of unmask_config.json that loading needs, as the types they stand for."""
    base, lora = config["backbone"], config["lora"]
    temperature = config.get("temperature", 1.0)  # older folders were never calibrated
    if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a number above 0, got {temperature!r}")
    if not all(isinstance(flag, bool) for flag in config["bidirectional"]):
        raise ValueError(f"bidirectional must be true or false, got {config['bidirectional']}")
    labels = config["labels"]
    if not isinstance(labels, list) or not labels or not all(map(_is_name, labels)):
        raise ValueError(f"labels must be names, got {labels!r:.200}")
    for key in ("name", "load_from", "digest", "dtype"):
        if not isinstance(base[key], str):
            raise ValueError(f"backbone: {key} must be a text, got {base[key]!r:.200}")
    return {
        "flags": UnmaskConfig(tuple(config["bidirectional"]), config["num_groups"]),
        "labels": labels,
        "lora": LoraSettings(
            _count("lora: rank", lora["rank"]),
            _count("lora: alpha", lora["alpha"]),
            float(lora["dropout"]),
            tuple(str(target) for target in lora["targets"]),
        ),
        "backbone": {
            key: base[key] for key in ("name", "load_from", "digest", "dtype", "quantization")
        },
        "head_dropout": float(config["head_dropout"]),
        "max_subtokens": _count("max_subtokens", config["max_subtokens"], MAX_SUBTOKENS),
        "temperature": float(temperature),
    }


def _is_name(label: Any) -> bool:
    return isinstance(label, str) and bool(label.strip())


def _count(name: str, value: Any, most: int = 2**31) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r:.100}")
    return value


def check_adapter(folder: Path, expected: Shapes, backbone: str) -> None:
    """Compare names, shapes and dtypes in the adapter file with `expected`; loads no tensor.

    Raises:
        ValueError: when the file is missing, damaged or made for something else.
    """
    path = folder / ADAPTER_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {ADAPTER_FILE}: the saved labeler is incomplete")
    try:
        with safe_open(path, framework="pt") as file:
            _check_names(path, set(file.keys()), set(expected), backbone)
            for name, shape in expected.items():
                _check_shape(path, name, file.get_slice(name), shape)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def read_adapter(folder: Path, expected: Shapes, backbone: str) -> dict[str, Tensor]:
    """The tensors of a checked adapter file, by their names in it.

    Raises:
        ValueError: as `check_adapter`, and for values that are not finite.
    """
    check_adapter(folder, expected, backbone)
    path = folder / ADAPTER_FILE
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in expected}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {name} holds values that are not finite")
    return tensors


def _check_names(path: Path, found: set[str], expected: set[str], backbone: str) -> None:
    if found != expected:
        odd = sorted(found ^ expected)[:3]
        raise ValueError(
            f"{path} does not fit {backbone}: tensors such as {odd} are on one side only; it was "
            "made for another backbone or other LoRA targets"
        )


def _check_shape(path: Path, name: str, found: Any, expected: tuple[int, ...]) -> None:
    shape = tuple(found.get_shape())
    if shape != expected:
        raise ValueError(
            f"{path}: {name} has shape {shape}, expected {expected}; it was made for another "
            "backbone, other labels or another rank"
        )
    if found.get_dtype() not in ("F64", "F32", "F16", "BF16"):
        raise ValueError(f"{path}: {name} holds {found.get_dtype()}, which are no weights")
