"""UnmaskedForTokenClassification: a frozen backbone, adapters, a head, and which layers look right.

The class holds R fine-tunings of one backbone, stacked along a leading run dimension; what a
user loads or trains alone is the case R = 1. All tokens of a batch pass through the backbone
together; the route says which adapters and which head are whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

from unmask.attention import configuration, remove
from unmask.backbones import LoadedBackbone, load_backbone, own_names
from unmask.card import CardFacts, write_card
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL
from unmask.data.tags import tag_names
from unmask.labeler import Labeler
from unmask.lora import (
    GroupedLoRALinear,
    LoraSettings,
    inject,
    lora_of_each,
    route_dropout,
    unroute_dropout,
)
from unmask.packing import pack_padded
from unmask.recipe import PAPER
from unmask.route import Draw
from unmask.saving import is_saved, load_saved, save
from unmask.sharing import fetch
from unmask.stacking import replaced


class UnmaskedForTokenClassification(Labeler):
    """R token classifiers on one frozen backbone.

    Besides what `LabelerStack` says, runs may differ in the shape of their adapters (but not in
    the adapters' targets).

    Attributes:
        run_lora: the shape of each run's adapters.
        lora_layers: names and `GroupedLoRALinear`s, input side first.
    """

    def __init__(
        self,
        loaded: LoadedBackbone,
        labels: Sequence[str] | Sequence[Sequence[str]],
        configs: Sequence[UnmaskConfig],
        lora: LoraSettings | Sequence[LoraSettings] | None = None,
        seeds: Sequence[int] = (120,),
        head_dropout: float = PAPER.head_dropout,
        max_subtokens: int = PAPER.max_subtokens,
    ) -> None:
        """A fresh stack of as many runs as `configs` has entries.

        Args:
            loaded: the frozen backbone; it is changed in place until `release`.
            labels: entity labels of all runs, or a sequence of them for each run.
            configs: which layers look right, for each run.
            lora: the shape of all adapters, or of each run's.
            seeds: of each run's adapters and head.
            head_dropout: before the heads of all runs.
            max_subtokens: longer inputs are cut in training and windowed in `predict`.

        Raises:
            ValueError: when the numbers of runs differ, a run has no label, or adapters differ in
                their targets.
        """
        run_lora = lora_of_each(lora, len(configs))
        super().__init__(loaded, labels, configs, seeds, head_dropout)
        self.run_lora = run_lora
        self.max_subtokens = max_subtokens
        self.num_forward_calls = 0
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        targets = own_names(self.run_lora[0].targets, loaded.is_encoder)

        def build(base: nn.Module, features: tuple[int, int], index: int) -> GroupedLoRALinear:
            stack = (self.run_lora, self.route, index, generators, self.trained_dtype)
            return GroupedLoRALinear(base, features, *stack).to(self.device)

        self.lora_layers = inject(self.backbone, targets, build)
        route_dropout(self.backbone, self.route, first_index=len(self.lora_layers))
        self._add_heads(generators)

    @property
    def widths(self) -> tuple[Any, ...]:
        """With the shape of each run's adapters."""
        return (self.run_lora, *super().widths)

    def has_room_for(self, labels: Sequence[str], lora: LoraSettings) -> bool:
        """Could a run with these labels and adapters take the place of one that is here?"""
        shared = self.run_lora[0]
        return (
            len(tag_names(labels)) <= self.score_weight.shape[1]
            and lora.rank <= self.lora_layers[0][1].lora_A.shape[1]
            and (lora.targets, lora.dropout) == (shared.targets, shared.dropout)
        )

    def begin(
        self, run: int, labels: Sequence[str], config: UnmaskConfig, lora: LoraSettings, seed: int
    ) -> None:
        """Put a fresh run in the place of `run`, as it would start in a stack of its own.

        Raises:
            ValueError: when the stack is too narrow for it.
        """
        if not self.has_room_for(labels, lora):
            raise ValueError(
                f"this stack has no room for {len(labels)} labels and {lora}: build another"
            )
        self.configs = replaced(self.configs, run, config)
        self.run_labels = replaced(self.run_labels, run, tuple(sorted(set(labels))))
        self.run_tags = replaced(self.run_tags, run, tag_names(labels))
        self.run_lora = replaced(self.run_lora, run, lora)
        self.seeds = replaced(self.seeds, run, seed)
        generator = torch.Generator().manual_seed(seed)
        for _, layer in self.lora_layers:
            layer.begin(run, lora, generator)
        self._begin_head(run, generator)
        for parameter in self.stacked_parameters().values():
            if parameter.grad is not None:
                parameter.grad[run].zero_()

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        labels: Sequence[str] | None = None,
        unmask: str | Sequence[int] | None = None,
        quantization: str | None = None,
        lora: LoraSettings | None = None,
        dtype: str | torch.dtype | None = None,
        device: str | torch.device | None = None,
        seed: int = 120,
        max_subtokens: int | None = None,
        revision: str | None = None,
        token: str | None = None,
    ) -> UnmaskedForTokenClassification:
        """Load a saved labeler, or put a fresh head and fresh adapters on a backbone.

        Args:
            model: a folder written by `save_pretrained`, or the hub id of one; or a backbone: a
                short name (`unmask.backbones.BACKBONES`), a hub id or a local folder.
            labels: entity labels, for a fresh labeler.
            unmask: which layers look right, for a fresh one: a code such as "0110" or a sequence
                of layer indices. Encoders take none.
            quantization: "nf4" or None.
            lora: shape of fresh adapters.
            dtype: dtype of the backbone's computation; default float32 for a fresh labeler, and
                as trained for a saved one.
            device: default: cuda, mps or cpu, the first that is there.
            seed: of a fresh labeler's adapters and head.
            max_subtokens: longer inputs are cut in training and windowed in `predict`.
            revision: commit, tag or branch of a labeler on a hub.
            token: for a labeler on a hub that is not public.

        Raises:
            ValueError: for settings that do not fit together, or a saved adapter that lacks its
                configuration or belongs to another backbone.
        """
        ours = labels is None or is_saved(Path(model))
        saved = fetch(str(model), revision, token) if ours else None
        if saved is not None:
            given = {"labels": labels, "unmask": unmask, "quantization": quantization, "lora": lora}
            clashing = [name for name, value in given.items() if value is not None]
            if clashing:
                raise ValueError(
                    f"{model} is a saved labeler, which brings its own {', '.join(clashing)}; "
                    "leave that out, or name a backbone"
                )
            return load_saved(cls, saved, dtype=dtype, device=device)
        if labels is None:
            raise ValueError(f"{model} is a backbone, not a saved labeler: say labels=[...]")
        if revision or token:
            raise ValueError(f"{model} is a backbone: revision and token are for saved labelers")
        loaded = load_backbone(str(model), dtype or "float32", quantization, device)
        config = configuration(loaded, unmask)
        limit = max_subtokens or PAPER.max_subtokens
        return cls(loaded, labels, [config], lora, [seed], max_subtokens=limit).eval()

    def save_pretrained(
        self, folder: str | Path, run: int = 0, facts: CardFacts | None = None
    ) -> None:
        """Write adapters and head in PEFT's format, our own configuration, and a model card.

        `facts` are what the card is to say of data, training and scores.
        """
        save(self, Path(folder), run)
        write_card(self, Path(folder), run, facts)

    def release(self) -> LoadedBackbone:
        """Give the backbone back as it was loaded; this labeler is of no use afterwards."""
        if self.is_merged:
            raise ValueError("the adapters are merged into this backbone: load it again instead")
        if self.is_gradient_checkpointing:
            self.activation_checkpointing_disable()  # it would look for the route of this stack
        for name, layer in self.lora_layers:
            self.backbone.set_submodule(name, layer.base)
        unroute_dropout(self.backbone)
        self._unfuse()
        remove(self.backbone, self.previous_attention)
        return self.loaded

    def run_parameters(self, run: int) -> dict[str, Tensor]:
        """The trained tensors of one run, by name: views, so that writing to them trains it."""
        views = {}
        for name, layer in self.lora_layers:
            views[f"{name}.lora_A"], views[f"{name}.lora_B"] = layer.matrices(run)
        num_tags = len(self.run_tags[run])
        views["score.weight"] = self.score_weight[run, :num_tags]
        views["score.bias"] = self.score_bias[run, :num_tags]
        return views

    def stacked_parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors of all runs, by the names of `run_parameters`, runs first."""
        stacked = {}
        for name, layer in self.lora_layers:
            stacked[f"{name}.lora_A"] = layer.lora_A
            stacked[f"{name}.lora_B"] = layer.lora_B
        return {**stacked, "score.weight": self.score_weight, "score.bias": self.score_bias}

    def get_extra_state(self) -> Tensor:
        """In `state_dict`: the dropout that `forward` draws next, for training that resumes."""
        return torch.tensor(self.num_forward_calls)

    def set_extra_state(self, state: Tensor) -> None:
        """Undo `get_extra_state`."""
        self.num_forward_calls = int(state)

    @torch.compiler.disable(reason="a labeler's passes run as they are; see docs/limits.md")
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> TokenClassifierOutput:
        """The signature of transformers' token classifiers, for a single run.

        Args:
            input_ids: int64 [batch, length], padded on either side.
            attention_mask: [batch, length], 1 for tokens.
            labels: int64 [batch, length], -100 where nothing is to be learned.

        Returns:
            Loss (with labels) and logits [batch, length, tags]; logits of padding are 0. In
            training mode every call draws new dropout masks.

        Raises:
            ValueError: for several runs, shapes that do not fit, or training after `merge`.
        """
        if self.num_runs != 1:
            raise ValueError(f"forward() serves one run, this model holds {self.num_runs}")
        if self.is_merged and self.training and labels is not None:
            raise ValueError(
                "the adapters are merged into this backbone, so only the head would learn: load "
                "the labeler again to train it, or call eval()"
            )
        _check_shapes(input_ids, attention_mask, labels)
        everywhere = torch.zeros_like(input_ids)
        batch, kept = pack_padded(input_ids, attention_mask, self.causal[0], everywhere)
        self.num_forward_calls += self.training
        with self.route(batch, Draw(self.seeds, (self.num_forward_calls,))):
            flat, _ = self.logits(batch)
        logits = flat.new_zeros(*input_ids.shape, len(self.tags))
        logits[kept] = flat
        loss = None
        if labels is not None:
            masked = labels.masked_fill(~kept, IGNORED_LABEL)
            loss = F.cross_entropy(logits.flatten(0, 1), masked.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits)  # pyright: ignore[reportArgumentType]


def _check_shapes(input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor | None) -> None:
    given = {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}
    shapes = {name: tuple(tensor.shape) for name, tensor in given.items() if tensor is not None}
    if input_ids.ndim != 2 or len(set(shapes.values())) > 1:
        raise ValueError(f"forward() takes tensors of one shape [batch, length], got {shapes}")
