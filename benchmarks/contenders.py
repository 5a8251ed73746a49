"""Padded and packed, the same weights behind both, computing the same numbers.

    padded    transformers' own class, SDPA, batches padded on the right to their longest
    packed    the same sentences as one pack, every layer causal (configuration 0000)

The `frozen` pair is the bare backbone; its backward pass goes down to the input embeddings. The
`lora` pair is the token classifier with adapters on q and v (through PEFT where padded), started
from equal tensors. Switched to training, both draw dropout masks of their own.
"""

from __future__ import annotations

import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel

from unmask.attention import install
from unmask.backbones import LoadedBackbone
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.data.tags import tag_names
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import PackedBatch, pack
from unmask.route import Draw

Sentences = Sequence[EncodedSentence]


class Contender(ABC):
    """One way to run a model on a batch of sentences."""

    module: nn.Module

    def train(self, mode: bool) -> None:
        """Dropout on or off."""
        self.module.train(mode)

    @abstractmethod
    def forward(self, sentences: Sentences) -> Tensor:
        """Inference; what it gives at the real (or labelled) tokens, in their order."""

    @abstractmethod
    def step(self, sentences: Sentences) -> list[Tensor]:
        """Forward and backward: the loss, and gradients in an order that the pair shares."""


class Pair(NamedTuple):
    """The two that are compared."""

    packed: Contender
    padded: Contender


class Padded(NamedTuple):
    """A batch as transformers takes it, padded on the right. All [sentences, longest]."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor

    @classmethod
    def of(cls, sentences: Sentences) -> Padded:
        """Pad to the longest of these."""
        rows = [torch.tensor([s.token_ids, s.label_ids]).T for s in sentences]
        mask = [torch.ones(len(row), dtype=torch.bool) for row in rows]
        pad = nn.utils.rnn.pad_sequence
        table = pad(rows, batch_first=True, padding_value=IGNORED_LABEL)
        kept = pad(mask, batch_first=True)
        return cls(table[..., 0].where(kept, 0), kept, table[..., 1])


class FrozenPadded(Contender):
    """transformers' backbone on a rectangle."""

    def __init__(self, backbone: PreTrainedModel, direction: Tensor) -> None:
        self.module = self.backbone = backbone
        self.direction = direction

    @torch.no_grad()
    def forward(self, sentences: Sentences) -> Tensor:
        """Last hidden states [tokens, hidden]."""
        batch = Padded.of(sentences)
        return self._hidden(batch, self._embeddings(batch))[batch.attention_mask]

    def step(self, sentences: Sentences) -> list[Tensor]:
        """Stand-in loss, and the gradient of the embeddings [tokens, hidden]."""
        batch = Padded.of(sentences)
        embeddings = self._embeddings(batch).requires_grad_()
        loss = _stand_in_loss(self._hidden(batch, embeddings)[batch.attention_mask], self.direction)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        return [loss.detach(), gradient[batch.attention_mask]]

    def _embeddings(self, batch: Padded) -> Tensor:
        return self.backbone.get_input_embeddings()(batch.input_ids)

    def _hidden(self, batch: Padded, embeddings: Tensor) -> Tensor:
        return self.backbone(
            inputs_embeds=embeddings, attention_mask=batch.attention_mask, use_cache=False
        ).last_hidden_state


class FrozenPacked(Contender):
    """The same backbone, its attention replaced, on a pack."""

    def __init__(self, backbone: PreTrainedModel, direction: Tensor) -> None:
        self.module = self.backbone = backbone
        self.direction = direction
        self.config = _all_causal(backbone)
        install(backbone, self.config)

    @torch.no_grad()
    def forward(self, sentences: Sentences) -> Tensor:
        """Last hidden states [tokens, hidden]."""
        batch = pack([sentences], [self.config.causal])
        return self._hidden(batch, self._embeddings(batch))

    def step(self, sentences: Sentences) -> list[Tensor]:
        """Stand-in loss, and the gradient of the embeddings [tokens, hidden]."""
        batch = pack([sentences], [self.config.causal])
        embeddings = self._embeddings(batch).requires_grad_()
        loss = _stand_in_loss(self._hidden(batch, embeddings), self.direction)
        (gradient,) = torch.autograd.grad(loss, embeddings)
        return [loss.detach(), gradient]

    def _embeddings(self, batch: PackedBatch) -> Tensor:
        return self.backbone.get_input_embeddings()(batch.token_ids)

    def _hidden(self, batch: PackedBatch, embeddings: Tensor) -> Tensor:
        return self.backbone(
            inputs_embeds=embeddings[None],
            position_ids=batch.position_ids[None],
            packed=batch,
            use_cache=False,
        ).last_hidden_state[0]


class LoraPadded(Contender):
    """transformers' token classifier with PEFT's adapters."""

    def __init__(self, model: PeftModel, trained: Sequence[nn.Parameter]) -> None:
        self.module = self.model = model
        self.trained = trained

    @torch.no_grad()
    def forward(self, sentences: Sentences) -> Tensor:
        """Logits [labelled, tags]."""
        batch = Padded.of(sentences)
        logits = self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return logits[batch.labels != IGNORED_LABEL]

    def step(self, sentences: Sentences) -> list[Tensor]:
        """Cross-entropy, and the gradients of adapters and head."""
        loss = self.model(**Padded.of(sentences)._asdict()).loss
        return [loss.detach(), *torch.autograd.grad(loss, self.trained)]


class LoraPacked(Contender):
    """This project's token classifier, one run."""

    def __init__(self, model: UnmaskedForTokenClassification) -> None:
        self.module = self.model = model
        self.trained = list(model.stacked_parameters().values())
        self.num_steps = 0

    @torch.no_grad()
    def forward(self, sentences: Sentences) -> Tensor:
        """Logits [labelled, tags]."""
        batch = self.model.batch([sentences])
        with self.model.route(batch):
            return self.model.logits(batch)[0]

    def step(self, sentences: Sentences) -> list[Tensor]:
        """Cross-entropy, and the gradients of adapters and head."""
        batch = self.model.batch([sentences])
        self.num_steps += 1
        with self.model.route(batch, Draw(self.model.seeds, (self.num_steps,))):
            loss = self.model.losses(batch).sum()
            gradients = torch.autograd.grad(loss, self.trained)
        return [loss.detach(), *(gradient[0] for gradient in gradients)]


def frozen_pair(loaded: LoadedBackbone, labels: Sequence[str], seed: int) -> Pair:
    """The bare backbone, twice; `labels` are not used."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(loaded.model.config.hidden_size, generator=generator)
    return Pair(
        FrozenPacked(_sharing_weights(loaded.model), direction),
        FrozenPadded(_sharing_weights(loaded.model), direction),
    )


def lora_pair(
    loaded: LoadedBackbone,
    labels: Sequence[str],
    seed: int,
    lora: LoraSettings | None = None,
) -> Pair:
    """Token classifiers with equal heads and adapters; B is drawn too, so that all of it counts."""
    backbone = _sharing_weights(loaded.model)
    config = _all_causal(backbone)
    ours = UnmaskedForTokenClassification(
        replace(loaded, model=backbone), labels, [config], lora, seeds=[seed]
    )
    generator = torch.Generator().manual_seed(seed)
    for _, layer in ours.lora_layers:
        nn.init.normal_(layer.lora_B, std=0.02, generator=generator)
    theirs, trained = _peft_classifier(loaded.model, ours)
    for name, value in ours.run_parameters(0).items():
        trained[name].data.copy_(value)
    return Pair(LoraPacked(ours), LoraPadded(theirs, [trained[n] for n in ours.run_parameters(0)]))


PAIRS: dict[str, Callable[[LoadedBackbone, Sequence[str], int], Pair]] = {
    "frozen": frozen_pair,
    "lora": lora_pair,
}


def largest_gap(pair: Pair, batches: Sequence[Sentences]) -> float:
    """Between their outputs, losses and gradients, dropout off; relative to the largest value."""
    gaps = []
    for contender in pair:
        contender.train(False)
    for sentences in batches:
        results = ([one.forward(sentences), *one.step(sentences)] for one in pair)
        for packed, padded in zip(*results, strict=True):
            gaps.append(float((packed - padded).abs().max() / padded.abs().max()))
    return max(gaps)


def _peft_classifier(
    backbone: PreTrainedModel, ours: UnmaskedForTokenClassification
) -> tuple[PeftModel, dict[str, nn.Parameter]]:
    """The padded token classifier, and its trained parameters by our names."""
    settings: LoraSettings = ours.run_lora[0]
    config = copy.deepcopy(backbone.config)
    config.num_labels = len(tag_names(ours.labels))
    config.classifier_dropout = ours.head_dropout
    classifier = AutoModelForTokenClassification.from_config(config, dtype=backbone.dtype)
    prefix = classifier.base_model_prefix
    setattr(classifier, prefix, _sharing_weights(backbone))
    adapters = LoraConfig(
        task_type="TOKEN_CLS",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
    )
    with warnings.catch_warnings():
        # PEFT still asks transformers for what transformers has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(classifier, adapters)
    head = classifier.score.modules_to_save["default"]
    trained = {"score.weight": head.weight, "score.bias": head.bias}
    for name, _ in ours.lora_layers:
        layer = classifier.get_submodule(f"{prefix}.{name}")
        for matrix in ("lora_A", "lora_B"):
            trained[f"{name}.{matrix}"] = getattr(layer, matrix)["default"].weight
    return model, trained


def _sharing_weights(model: PreTrainedModel) -> PreTrainedModel:
    """A copy with modules and buffers of its own but the same weights, attention by SDPA."""
    twin = copy.deepcopy(model, memo={id(weight): weight for weight in model.parameters()})
    twin.set_attn_implementation("sdpa")
    twin.config.use_cache = False
    return twin


def _all_causal(backbone: PreTrainedModel) -> UnmaskConfig:
    return UnmaskConfig((False,) * backbone.config.num_hidden_layers)


def _stand_in_loss(hidden: Tensor, direction: Tensor) -> Tensor:
    """Of hidden states [tokens, hidden]; their own square would not do, the last norm fixes it."""
    return (hidden @ direction).square().mean()
