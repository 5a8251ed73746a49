"""Saved labelers: adapters and head as PEFT files, with our own configuration beside them.

    adapter_config.json          PEFT's LoraConfig, so that anyone can load the adapters
    adapter_model.safetensors    the adapters and the head
    unmask_config.json           which layers look right, labels, the backbone and its digest

PEFT's files alone would load as a causal model, silently: a folder without unmask_config.json is
refused. Base weights are never written; nothing is pickled.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from unmask.backbones import LoadedBackbone, load_backbone, own_names
from unmask.config import UnmaskConfig
from unmask.data.tags import tag_names
from unmask.lora import LoraSettings, target_layers
from unmask.saved_folder import (
    ADAPTER_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    PEFT_CONFIG_FILE,
    check_adapter,
    read_adapter,
    read_config,
)

# What transformers' token-classification classes call their backbone and their head.
DECODER_NAMES = ("model", "score")
ENCODER_HEAD = "classifier"


def is_saved(folder: Path) -> bool:
    """Is this a folder of ours (or of PEFT's, which `load_saved` then refuses by name)?"""
    return (folder / CONFIG_FILE).exists() or (folder / PEFT_CONFIG_FILE).exists()


def save(model: Any, folder: Path, run: int = 0) -> None:
    """Write one run of an `UnmaskedForTokenClassification`; see `load_saved`.

    Raises:
        ValueError: when its adapters were merged into the backbone, or the backbone was trained.
    """
    if model.is_merged:
        raise ValueError(
            "the adapters of this labeler are merged into its backbone and cannot be saved by "
            "themselves: use merge_and_save, or load the labeler again"
        )
    loaded: LoadedBackbone = model.loaded
    if loaded.digest() != loaded.loaded_digest:
        raise ValueError(
            "the weights of the backbone are no longer those that were loaded (were they trained, "
            "by requires_grad_(True)?), and a labeler's folder holds adapters and head alone: keep "
            "its state_dict(), or train it with a frozen backbone"
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Removed first and written last, so that a folder that was cut short lacks it and is refused.
    (folder / CONFIG_FILE).unlink(missing_ok=True)
    tensors = {
        _peft_name(name, loaded): tensor.detach().cpu().contiguous().clone()
        for name, tensor in model.run_parameters(run).items()
    }
    save_file(tensors, folder / ADAPTER_FILE, metadata={"format": "pt"})
    _write_json(folder / PEFT_CONFIG_FILE, _peft_config(model, run))
    loaded.tokenizer.save_pretrained(folder)
    _write_json(folder / CONFIG_FILE, _own_config(model, run))


def load_saved(
    cls: Any,
    folder: Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Any:
    """Load what `save` wrote: the backbone from where it came, the rest from `folder`.

    Raises:
        ValueError: when a file is missing, damaged, or made for another backbone.
    """
    config = read_config(folder)
    base = config["backbone"]
    loaded = load_backbone(base["load_from"], base["dtype"], base["quantization"], device)
    if loaded.digest() != base["digest"]:
        raise ValueError(
            f"{folder} was trained on {base['name']}, but the weights now found under that name "
            f"({loaded.weights.name}) are others; its adapters would compute nonsense"
        )
    num_tags = len(tag_names(sorted(set(config["labels"]))))
    shapes = adapter_shapes(loaded, config["lora"], num_tags)
    check_adapter(folder, shapes, loaded.weights.name)  # before memory is asked for
    if dtype is not None:
        loaded.cast(dtype)
    model = cls(
        loaded,
        config["labels"],
        [config["flags"]],
        config["lora"],
        [0],
        config["head_dropout"],
        config["max_subtokens"],
    )
    model.temperature = config["temperature"]
    model.loaded_from = folder
    load_adapter(model, folder)
    return model.eval()


def store_temperature(folder: Path, temperature: float) -> None:
    """Write another temperature into a saved labeler; nothing else of it changes."""
    path = folder / CONFIG_FILE
    values = json.loads(path.read_text(encoding="utf-8"))
    _write_json(path, {**values, "temperature": temperature})


def load_adapter(model: Any, folder: Path, run: int = 0) -> None:
    """Copy saved adapters and head into one run, after checking every name, shape and value.

    Raises:
        ValueError: when the file is missing, damaged or made for another backbone.
    """
    own = {
        _peft_name(name, model.loaded): tensor for name, tensor in model.run_parameters(run).items()
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    saved = read_adapter(folder, shapes, model.loaded.weights.name)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def adapter_shapes(
    loaded: LoadedBackbone, lora: LoraSettings, num_tags: int
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor in the adapter file of a labeler on this backbone."""
    shapes: dict[str, tuple[int, ...]] = {}
    targets = own_names(lora.targets, loaded.is_encoder)
    for name, layer in target_layers(loaded.model, targets):
        shapes[_peft_name(f"{name}.lora_A", loaded)] = (lora.rank, int(layer.in_features))  # pyright: ignore[reportArgumentType]
        shapes[_peft_name(f"{name}.lora_B", loaded)] = (int(layer.out_features), lora.rank)  # pyright: ignore[reportArgumentType]
    hidden = loaded.model.config.hidden_size
    shapes[_peft_name("score.weight", loaded)] = (num_tags, hidden)
    shapes[_peft_name("score.bias", loaded)] = (num_tags,)
    return shapes


def _own_config(model: Any, run: int) -> dict[str, Any]:
    loaded: LoadedBackbone = model.loaded
    config: UnmaskConfig = model.configs[run]
    lora: LoraSettings = model.run_lora[run]
    weights = loaded.weights
    return {
        "format_version": FORMAT_VERSION,
        "code": config.code,
        "bidirectional": list(config.bidirectional),
        "num_groups": config.num_groups,
        "labels": list(model.run_labels[run]),
        "scheme": "IOB2",
        "temperature": model.temperature,
        "max_subtokens": model.max_subtokens,
        "head_dropout": model.head_dropout,
        "lora": {
            "rank": lora.rank,
            "alpha": lora.alpha,
            "dropout": lora.dropout,
            "targets": list(lora.targets),
        },
        "backbone": {
            "name": weights.name,
            "load_from": loaded.load_from,
            "revision": weights.revision,
            "digest": loaded.digest(),
            "dtype": str(loaded.load_dtype).removeprefix("torch."),
            "quantization": loaded.quantization,
            "is_encoder": loaded.is_encoder,
        },
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("unmask", "torch", "transformers", "peft")
        },
    }


def _peft_config(model: Any, run: int) -> dict[str, Any]:
    """PEFT's `LoraConfig`, but for what is at its default in every version.

    Written out, because to import PEFT takes as long as to train a few small runs.
    """
    lora: LoraSettings = model.run_lora[run]
    return {
        "peft_type": "LORA",
        "peft_version": importlib.metadata.version("peft"),
        "task_type": "TOKEN_CLS",
        "base_model_name_or_path": model.loaded.weights.path,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name, _ in model.lora_layers}),
        "modules_to_save": ["classifier", "score"],
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
    }


def _peft_name(name: str, loaded: LoadedBackbone) -> str:
    """The name that PEFT gives a tensor inside transformers' token-classification class."""
    prefix, head = DECODER_NAMES
    if loaded.is_encoder:
        prefix, head = loaded.model.base_model_prefix, ENCODER_HEAD
    if name.startswith("score."):
        return f"base_model.model.{head}.{name.removeprefix('score.')}"
    return f"base_model.model.{prefix}.{name}.weight"


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, default=str) + "\n", encoding="utf-8")
