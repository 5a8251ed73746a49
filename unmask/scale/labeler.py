"""A sequence labeler of which every parameter is trained: backbone and head, no adapters.

It takes the same packs, the same attention and the same proof of the mask as labelers with
adapters do. The one thing that is easy to get wrong: its backbone must be a fresh copy for every
run, since training changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from unmask.attention import install
from unmask.backbones import LoadedBackbone, Weights, quiet_transformers
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence, WordEncoder
from unmask.data.tags import tag_names
from unmask.packing import PackedBatch, pack
from unmask.verify import MaskProof, verify


class FullLabeler(nn.Module):
    """One token classifier.

    Attributes:
        tags: IOB2 tags of the labels, "O" first.
        config: which layers look right.
    """

    num_runs = 1

    def __init__(
        self,
        loaded: LoadedBackbone,
        labels: Sequence[str],
        config: UnmaskConfig,
        seed: int,
        head_dropout: float,
    ) -> None:
        super().__init__()
        self.loaded = loaded
        self.backbone = loaded.model
        self.config = config
        self.tags = tag_names(labels)
        self.run_tags = (self.tags,)
        self.encoder = WordEncoder(loaded.tokenizer)
        install(self.backbone, config)
        hidden = self.backbone.config.hidden_size
        self.dropout = nn.Dropout(head_dropout)
        self.score = nn.Linear(hidden, len(self.tags), device=self.backbone.device)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            drawn = torch.empty(len(self.tags), hidden).normal_(0, 0.02, generator=generator)
            self.score.weight.copy_(drawn)
            self.score.bias.zero_()

    def batch(self, sentences: Sequence[EncodedSentence]) -> PackedBatch:
        """Sentences end to end, on the model's device."""
        return pack([sentences], [self.config.causal]).to(self.backbone.device)

    def hidden_states(self, batch: PackedBatch) -> Tensor:
        """[tokens, hidden]."""
        return self.backbone(
            input_ids=batch.token_ids[None],
            position_ids=batch.position_ids[None] + self.loaded.position_offset,
            packed=batch,
        ).last_hidden_state[0]

    def logits(self, batch: PackedBatch) -> Tensor:
        """[labelled, tags], at first sub-tokens."""
        labelled = batch.label_ids != IGNORED_LABEL
        return self.score(self.dropout(self.hidden_states(batch)[labelled]))

    def loss(self, batch: PackedBatch) -> Tensor:
        """Mean cross-entropy over the labelled words; 0 where there are none."""
        labels = batch.label_ids[batch.label_ids != IGNORED_LABEL]
        losses = F.cross_entropy(self.logits(batch).float(), labels, reduction="sum")
        return losses / max(len(labels), 1)

    @torch.no_grad()
    def probabilities(self, runs: Sequence[Sequence[EncodedSentence]]) -> list[list[Tensor]]:
        """For the one run and every sentence, [words kept, tags]."""
        (sentences,) = runs
        was_training = self.training
        self.eval()
        scores = self.logits(self.batch(sentences)).float().softmax(dim=-1).cpu()
        self.train(was_training)
        return [list(scores.split([sentence.num_words for sentence in sentences]))]

    def verify_mask(self) -> MaskProof:
        """Probe every layer: does it see what the configuration says?"""
        was_training = self.training
        self.eval()
        proof = verify(self.backbone, self.config, self.hidden_states)
        self.train(was_training)
        return proof


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
