"""Sequence labelers of which every parameter is trained: backbones and heads, no adapters.

They take the same packs, the same attention, the same trainer and the same proof of the mask as
labelers with adapters do. The one thing that is easy to get wrong: the backbone must be a fresh
copy for every stack, since training changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from unmask.backbones import LoadedBackbone, Weights, quiet_transformers, torch_dtype
from unmask.config import UnmaskConfig
from unmask.labeler_stack import LabelerStack
from unmask.lora import route_dropout
from unmask.scale.stacked_layers import stack_layers


class FullLabelers(LabelerStack):
    """R token classifiers that begin with the same backbone and share nothing from then on."""

    def __init__(
        self,
        loaded: LoadedBackbone,
        labels: Sequence[str],
        configs: Sequence[UnmaskConfig],
        seeds: Sequence[int],
        head_dropout: float,
        compute_dtype: str = "float32",
    ) -> None:
        """A fresh stack of as many runs as `configs` has entries.

        Args:
            loaded: what all runs begin with, in the dtype of trained weights; it is used up.
            labels: entity labels of all runs.
            configs: which layers look right, for each run.
            seeds: of each run's head and dropout.
            head_dropout: before the heads of all runs.
            compute_dtype: of products in the backbone.
        """
        super().__init__(loaded, labels, configs, seeds, head_dropout)
        stack_layers(self.backbone, len(configs), self.route, torch_dtype(compute_dtype))
        route_dropout(self.backbone, self.route, first_index=0)
        self._add_heads([torch.Generator().manual_seed(seed) for seed in seeds])

    def run_parameters(self, run: int) -> dict[str, Tensor]:
        """See `LabelerStack`."""
        return {name: stacked.data[run] for name, stacked in self.stacked_parameters().items()}

    def stacked_parameters(self) -> dict[str, nn.Parameter]:
        """See `LabelerStack`."""
        backbone = dict(self.backbone.named_parameters())
        return {**backbone, "score.weight": self.score_weight, "score.bias": self.score_bias}


def load_checkpoint(folder: Path, name: str, device: str = "cpu") -> LoadedBackbone:
    """A fresh copy of a pre-trained checkpoint without its language-modelling head, in float32.

    Dropout on attention weights is off, as everywhere in fine-tuning; the other dropout stays.

    Raises:
        FileNotFoundError: when there is no checkpoint.
    """
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"there is no checkpoint in {folder}: run `python -m unmask.scale pretrain` first"
        )
    config = AutoConfig.from_pretrained(folder)
    for attribute in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, attribute):
            setattr(config, attribute, 0.0)
    is_encoder = config.model_type == "roberta" and not config.is_decoder
    extra = {"add_pooling_layer": False} if config.model_type == "roberta" else {}
    with quiet_transformers():
        model = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, **extra)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    return LoadedBackbone(
        Weights(name, str(folder)),
        str(folder),
        model.to(device),
        tokenizer,
        is_encoder,
        quantization=None,
        dtype=torch.float32,
    )
