"""Adapters folded into the weights: for speed, and for export as a plain transformers folder.

The danger of the export: transformers knows no flag for single layers. A folder that AutoModel
opens by itself is causal in every layer, silently; so the flags stand in its config.json,
`load_merged` obeys them, and README.md says so first. Where all layers are open transformers can
do it (`is_causal` in the config), and then the folder is right without us.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForTokenClassification, PreTrainedModel

from unmask.attention import FLAGS_ATTRIBUTE, install
from unmask.backbones import ENCODER_TYPES, quiet_transformers
from unmask.config import UnmaskConfig
from unmask.lora import GroupedLoRALinear
from unmask.quantization import written_out

ENCODER_HEAD = "classifier"
DECODER_HEAD = "score"


@torch.no_grad()
def merged_linear(layer: GroupedLoRALinear, run: int = 0) -> nn.Linear:
    """A plain linear layer that computes what `layer` does for `run`; NF4 weights become dense."""
    weight = layer.merged_weight(dense_weight(layer.base), run)
    bias = getattr(layer.base, "bias", None)
    linear = nn.Linear(
        weight.shape[1], weight.shape[0], bias is not None, device="meta", dtype=weight.dtype
    )
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def dense_weight(linear: nn.Module) -> Tensor:
    """The weight of a linear layer, [out_features, in_features], dequantised if need be."""
    weight: Any = linear.weight
    if getattr(weight, "quant_state", None) is None:
        return weight.detach()
    return written_out(weight)


def write_merged(labeler: Any, folder: Path) -> None:
    """Write config, weights, tokenizer and a README; see `load_merged`."""
    config = _merged_config(labeler)
    with torch.device("meta"):
        model = AutoModelForTokenClassification.from_config(config, dtype=labeler.loaded.dtype)
    prefix = model.base_model_prefix
    head = ENCODER_HEAD if labeler.loaded.is_encoder else DECODER_HEAD
    with labeler.merged():
        state = {f"{prefix}.{name}": tensor for name, tensor in _dense_state(labeler.backbone)}
    dtype = labeler.loaded.dtype
    state[f"{head}.weight"] = labeler.score_weight[0].detach().to(dtype)
    state[f"{head}.bias"] = labeler.score_bias[0].detach().to(dtype)
    model.load_state_dict(state, assign=True)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
    labeler.loaded.tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(_readme(labeler), encoding="utf-8")


def load_merged(
    folder: str | Path, dtype: str = "float32", device: str | None = None
) -> PreTrainedModel:
    """A folder of `merge_and_save` as transformers' own class, with the mask it was trained with.

    Raises:
        ValueError: for a folder whose config.json has no flags.
    """
    config = AutoConfig.from_pretrained(folder)
    flags = getattr(config, FLAGS_ATTRIBUTE, None)
    if flags is None:
        raise ValueError(
            f"{folder} says nothing of which layers look right; it was not written by "
            "merge_and_save, so load it with transformers itself"
        )
    with quiet_transformers():
        model = AutoModelForTokenClassification.from_pretrained(folder, dtype=getattr(torch, dtype))
    if config.model_type not in ENCODER_TYPES:
        install(model, UnmaskConfig(tuple(flags)))
    return model.to(device).eval() if device else model.eval()


def opens_by_itself(config: UnmaskConfig, model_config: Any) -> bool:
    """Does transformers give this mask without us? All causal, or all open without a window."""
    if not any(config.bidirectional):
        return True
    has_window = bool(getattr(model_config, "sliding_window", None))
    return all(config.bidirectional) and not has_window


def _merged_config(labeler: Any) -> Any:
    config = copy.deepcopy(labeler.backbone.config)
    config.id2label = dict(enumerate(labeler.tags))
    config.label2id = {tag: index for index, tag in enumerate(labeler.tags)}
    setattr(config, FLAGS_ATTRIBUTE, list(labeler.configs[0].bidirectional))
    flags = labeler.configs[0]
    if not labeler.loaded.is_encoder and all(flags.bidirectional):
        config.is_causal = not opens_by_itself(flags, config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _dense_state(backbone: nn.Module) -> list[tuple[str, Tensor]]:
    """Names and tensors of a backbone without adapters, nothing quantised."""
    state: dict[str, Tensor] = {}
    for name, module in backbone.named_modules():
        if getattr(getattr(module, "weight", None), "quant_state", None) is None:
            for key, tensor in module.state_dict(prefix=f"{name}." if name else "").items():
                if "." not in key.removeprefix(f"{name}."):
                    state[key] = tensor.detach()
            continue
        state[f"{name}.weight"] = dense_weight(module)
        if getattr(module, "bias", None) is not None:
            state[f"{name}.bias"] = module.bias.detach()  # pyright: ignore[reportCallIssue, reportOptionalMemberAccess, reportAttributeAccessIssue]
    return list(state.items())


def _readme(labeler: Any) -> str:
    code = labeler.configs[0].code
    if labeler.loaded.is_encoder or opens_by_itself(labeler.configs[0], labeler.backbone.config):
        warning = "transformers alone gives this model the mask that it was trained with."
    else:
        warning = (
            "**Without the package `unmask` this model is causal in every layer**, because "
            "transformers cannot open single layers. It then labels worse, and says nothing. Load "
            "it like this:\n\n"
            "```python\n"
            "from unmask.merging import load_merged\n\n"
            "model = load_merged(FOLDER)\n"
            "```"
        )
    return (
        f"# {labeler.loaded.weights.name}, layers unmasked: {code}\n\n{warning}\n\n"
        f"Labels: {', '.join(labeler.labels)} (IOB2 tags). Words were encoded one by one with the "
        "space before them; a word's tag is read at its first sub-token.\n"
    )
