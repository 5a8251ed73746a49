"""UnmaskedForTokenClassification: a frozen backbone, adapters, a head, and which layers look right.

The class holds R fine-tunings of one backbone, stacked along a leading run dimension; what a
user loads or trains alone is the case R = 1. All tokens of a batch pass through the backbone
together; the route says which adapters and which head are whose.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import TokenClassifierOutput

from unmask.attention import configuration, decoder_layers, install, remove
from unmask.backbones import LoadedBackbone, load_backbone, own_names
from unmask.card import CardFacts, write_card
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence, WordEncoder
from unmask.data.tags import tag_names
from unmask.fusing import fuse
from unmask.kernels import grouped_linear
from unmask.labeler import Labeler
from unmask.lora import (
    Draw,
    GroupedLoRALinear,
    LoraSettings,
    Route,
    inject,
    lora_of_each,
    route_dropout,
    unroute_dropout,
)
from unmask.packing import PackedBatch, pack, pack_padded
from unmask.recipe import PAPER
from unmask.saving import is_saved, load_saved, save
from unmask.sharing import fetch
from unmask.stacking import labels_of_each, means_by_run, replaced, without_absent
from unmask.verify import MaskProof, verify_runs

HEAD_INDEX = 1_000_000
"""Place of the head's dropout among the numbered modules; adapters and encoders count from 0."""


class UnmaskedForTokenClassification(Labeler):
    """R token classifiers on one frozen backbone.

    Runs may differ in configuration, seed, labels and the shape of their adapters (but not in the
    adapters' targets). Stacked tensors are as wide as their widest run needs; what a run does not
    use of them is 0 and stays so.

    Attributes:
        configs: one `UnmaskConfig` per run.
        run_labels: entity labels of each run, sorted.
        run_tags: of each run the IOB2 tags of its labels, with "O" first.
        run_lora: the shape of each run's adapters.
        lora_layers: names and `GroupedLoRALinear`s, input side first.
        score_weight, score_bias: heads, [runs, tags, hidden] and [runs, tags].
        num_tags: int64 [runs], of each run, on the device.
    """

    num_tags: Tensor

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
        super().__init__()
        if len(configs) != len(seeds):
            raise ValueError(f"{len(configs)} configurations but {len(seeds)} seeds")
        self.loaded = loaded
        self.backbone = loaded.model
        self.configs = tuple(configs)
        self.run_labels = labels_of_each(labels, len(configs))
        self.run_tags = tuple(tag_names(own) for own in self.run_labels)
        self.run_lora = lora_of_each(lora, len(configs))
        self.head_dropout = head_dropout
        self.max_subtokens = max_subtokens
        self.seeds = tuple(seeds)
        self.num_forward_calls = 0
        self.route = Route()
        self.encoder = WordEncoder(loaded.tokenizer)
        # Single-run calls without a batch read the flags of the first configuration.
        self.previous_attention = install(self.backbone, self.configs[0])
        self._unfuse = fuse(self.backbone, lambda: self.route.longest)
        self._add_trainable_parts(seeds)

    def _add_trainable_parts(self, seeds: Sequence[int]) -> None:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        # Trained weights are float32 whatever the backbone computes in (float64 stays float64).
        dtype = torch.promote_types(self.loaded.dtype, torch.float32)
        targets = own_names(self.run_lora[0].targets, self.loaded.is_encoder)

        def build(base: nn.Module, features: tuple[int, int], index: int) -> GroupedLoRALinear:
            stack = (self.run_lora, self.route, index, generators, dtype)
            return GroupedLoRALinear(base, features, *stack).to(self.device)

        self.lora_layers = inject(self.backbone, targets, build)
        route_dropout(self.backbone, self.route, first_index=len(self.lora_layers))
        self.route.add_dropout(HEAD_INDEX)
        shape = (len(generators), max(map(len, self.run_tags)), self.backbone.config.hidden_size)
        self.score_weight = nn.Parameter(torch.zeros(shape, dtype=dtype, device=self.device))
        self.score_bias = nn.Parameter(self.score_weight.new_zeros(shape[:2]))
        counts = torch.zeros(len(generators), dtype=torch.int64, device=self.device)
        self.register_buffer("num_tags", counts, persistent=False)
        for run, generator in enumerate(generators):
            self._begin_head(run, generator)

    @torch.no_grad()
    def _begin_head(self, run: int, generator: torch.Generator) -> None:
        std = getattr(self.backbone.config, "initializer_range", 0.02)
        self.score_weight[run].zero_()
        self.score_bias[run].zero_()
        self.num_tags[run] = len(self.run_tags[run])
        own = self.score_weight[run, : len(self.run_tags[run])]
        own.copy_(torch.empty(own.shape, dtype=own.dtype).normal_(0, std, generator=generator))

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
        dtype: str | None = None,
        device: str | None = None,
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
        for name, layer in self.lora_layers:
            self.backbone.set_submodule(name, layer.base)
        unroute_dropout(self.backbone)
        self._unfuse()
        remove(self.backbone, self.previous_attention)
        return self.loaded

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return self.backbone.device

    @property
    def num_runs(self) -> int:
        """R."""
        return len(self.configs)

    @property
    def causal(self) -> list[tuple[bool, ...]]:
        """For every run, for every layer: does the causal mask stay?"""
        return [config.causal for config in self.configs]

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

    def batch(self, runs: Sequence[Sequence[EncodedSentence]]) -> PackedBatch:
        """Pack sentences, one sequence per run, with this model's flags, on its device."""
        return pack(runs, self.causal).to(self.device)

    def hidden_states(self, batch: PackedBatch) -> Tensor:
        """Last hidden states [tokens, hidden] of a batch; call inside the route.

        Raises:
            RuntimeError: when the route holds no batch or another one.
        """
        if self.route.batch is not batch:
            raise RuntimeError("the route was entered with another batch than the model is given")
        states = self.backbone(
            input_ids=batch.token_ids[None],
            position_ids=batch.position_ids[None] + self.loaded.position_offset,
            packed=batch,
            **({} if self.loaded.is_encoder else {"use_cache": False}),
        ).last_hidden_state[0]
        # What is recomputed in backward reads the route again: it must still be this one.
        layers = decoder_layers(self.backbone)
        recomputes = any(getattr(layer, "gradient_checkpointing", False) for layer in layers)
        return self.route.guard(states) if recomputes else states

    def logits(self, batch: PackedBatch) -> tuple[Tensor, Tensor]:
        """Scores at the labelled tokens only; call inside the route.

        Returns:
            Logits [labelled, tags] and int32 [runs + 1], where each run's labelled tokens begin.
            Tags that a run does not have are at minus infinity.
        """
        labelled = batch.labelled
        hidden = self.hidden_states(batch)
        if self.training:
            hidden = self.route.dropout(hidden, self.head_dropout, HEAD_INDEX)
        hidden = hidden.index_select(0, labelled.places).to(self.score_weight.dtype)
        offsets = labelled.offsets_for_kernels
        logits = grouped_linear(hidden, self.score_weight, offsets, self.score_bias)
        if min(map(len, self.run_tags)) < logits.shape[1]:
            logits = without_absent(logits, self.num_tags, labelled.runs)
        return logits, labelled.run_offsets

    def losses(self, batch: PackedBatch) -> Tensor:
        """[runs], each the mean cross-entropy over that run's own labelled words.

        A run without a labelled word in this batch has loss 0. Call inside the route, and run
        backward inside it too: the route's guard raises otherwise.
        """
        logits = self.route.guard(self.logits(batch)[0])
        _, label_ids, _, runs, _ = batch.labelled
        per_word = F.cross_entropy(logits, label_ids, reduction="none")
        return means_by_run(per_word, label_ids != IGNORED_LABEL, runs, self.num_runs)

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
            training mode every call draws new dropout masks. With gradient checkpointing backward
            raises; use `losses` inside `route` there.
        """
        if self.num_runs != 1:
            raise ValueError(f"forward() serves one run, this model holds {self.num_runs}")
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

    @torch.no_grad()
    def probabilities(self, runs: Sequence[Sequence[EncodedSentence]]) -> list[list[Tensor]]:
        """For every run and sentence, [words kept, its tags]: the softmax at first sub-tokens."""
        batch = self.batch(runs)
        was_training = self.training
        self.eval()
        with self.route(batch):
            logits, _ = self.logits(batch)
        self.train(was_training)
        scores = logits.float().softmax(dim=-1).cpu()
        counts = [sum(x != IGNORED_LABEL for x in s.label_ids) for run in runs for s in run]
        parts = iter(scores.split(counts))
        pairs = zip(runs, self.run_tags, strict=True)
        return [[next(parts)[:, : len(tags)] for _ in run] for run, tags in pairs]

    def verify_mask(self, run: int = 0) -> MaskProof:
        """Probe every layer: does it see what the configuration of `run` says?"""
        return self.verify_masks([run])[0]

    def verify_masks(self, runs: Iterable[int] | None = None) -> list[MaskProof]:
        """The same for several runs at once, in their order; default: all."""
        chosen = set(range(self.num_runs) if runs is None else runs)

        def forward(batch: PackedBatch) -> None:
            with self.route(batch):
                self.hidden_states(batch)

        probed = [config if run in chosen else None for run, config in enumerate(self.configs)]
        return verify_runs(self.backbone, probed, forward)
