"""R labelers whose tokens pass through one backbone together: route, heads, losses, scores, proofs.

Nothing here says in what the labelers differ below their heads. `unmask.model` gives each adapters
on frozen weights that all share, `unmask.scale.labeler` weights of its own. The one thing that is
easy to get wrong: the layers in between know whose tokens are whose by the route alone, so it is
entered around forward and backward.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.attention import decoder_layers, install
from unmask.backbones import LoadedBackbone, recomputing
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence, WordEncoder
from unmask.data.tags import tag_names
from unmask.fusing import fuse
from unmask.kernels import grouped_linear
from unmask.packing import PackedBatch, pack
from unmask.route import Route
from unmask.stacking import labels_of_each, means_by_run, without_absent
from unmask.verify import MaskProof, verify_runs

HEAD_INDEX = 1_000_000
"""Place of the head's dropout among the numbered modules; those of the backbone count from 0."""


class LabelerStack(nn.Module, ABC):
    """R token classifiers.

    Runs may differ in configuration, seed and labels. Stacked tensors are as wide as their widest
    run needs; what a run does not use of them is 0 and stays so.

    Attributes:
        configs: one `UnmaskConfig` per run.
        run_labels: entity labels of each run, sorted.
        run_tags: of each run the IOB2 tags of its labels, with "O" first.
        seeds: of each run.
        route: whose tokens are whose.
        score_weight, score_bias: heads, [runs, tags, hidden] and [runs, tags].
        num_tags: int64 [runs], of each run, on the device.
    """

    num_tags: Tensor
    _unfuse: Callable[[], None]
    """Gives the backbone its stock blocks back."""

    def __init__(
        self,
        loaded: LoadedBackbone,
        labels: Sequence[str] | Sequence[Sequence[str]],
        configs: Sequence[UnmaskConfig],
        seeds: Sequence[int],
        head_dropout: float,
    ) -> None:
        """Prepare the backbone, in place, for packs of as many runs as `configs` has entries.

        A subclass gives each its weights, and calls `_add_heads` after that.

        Raises:
            ValueError: when the numbers of runs differ or a run has no label.
        """
        super().__init__()
        if len(configs) != len(seeds):
            raise ValueError(f"{len(configs)} configurations but {len(seeds)} seeds")
        self.loaded = loaded
        self.backbone: Any = loaded.model
        self.configs = tuple(configs)
        self.run_labels = labels_of_each(labels, len(configs))
        self.run_tags = tuple(tag_names(own) for own in self.run_labels)
        self.head_dropout = head_dropout
        self.seeds = tuple(seeds)
        self.route = Route()
        self.encoder = WordEncoder(loaded.tokenizer)
        # Single-run calls without a batch read the flags of the first configuration.
        self.previous_attention = install(self.backbone, self.configs[0])
        self._fuse()

    def _fuse(self) -> None:
        self._unfuse = fuse(self.backbone, lambda: self.route.longest)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A stack of its own; its shortened blocks must not read the route of this one."""
        self._unfuse()
        try:
            twin = memo[id(self)] = type(self).__new__(type(self))
            vars(twin).update(copy.deepcopy({**self.__dict__, "_unfuse": None}, memo))
        finally:
            self._fuse()
        twin._fuse()
        return twin

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `half`, `to` and others come down to; the backbone must know what it computes in."""
        dtype = fn(torch.empty(0, dtype=self.loaded.dtype)).dtype
        self.loaded.cast(dtype)
        return super()._apply(fn, recurse)

    def _replicate_for_data_parallel(self) -> NoReturn:
        raise RuntimeError(
            "DataParallel would let copies of a labeler share one batch: start a process for each "
            "device (torchrun, accelerate launch), or show one device (CUDA_VISIBLE_DEVICES=0)"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "labelers are not pickled: write one with save_pretrained(folder) and read it with "
            "from_pretrained(folder), or keep its state_dict()"
        )

    def _add_heads(self, generators: Sequence[torch.Generator]) -> None:
        """Fresh heads, each drawn from its run's generator."""
        self.route.add_dropout(HEAD_INDEX)
        shape = (len(generators), max(map(len, self.run_tags)), self.backbone.config.hidden_size)
        start = torch.zeros(shape, dtype=self.trained_dtype, device=self.device)
        self.score_weight = nn.Parameter(start)
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

    supports_gradient_checkpointing = True

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: dict[str, Any] | None = None, **layers: Any
    ) -> None:
        """Keep a layer's input only and compute the layer again in backward, for less memory.

        Named and called as on transformers' models, which is what their Trainer does. Unlike there,
        no gradient is asked for below the first trained layer.

        Args:
            activation_checkpointing_kwargs: of `torch.utils.checkpoint.checkpoint`.
            **layers: what else the installed transformers takes, such as `every_n_layers`.

        Raises:
            ValueError: for reentrant checkpointing, which cannot find the route of forward again.
        """
        # Dropout is counted, not drawn: there is no state of a generator to put back.
        given: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
        given |= activation_checkpointing_kwargs or {}
        if given["use_reentrant"] or "context_fn" in given:
            raise ValueError(
                "layers that are computed again find their batch by a context_fn of their own, "
                "which reentrant checkpointing has not: leave context_fn and use_reentrant=True out"
            )
        recomputing(self.backbone, "enable")({**given, "context_fn": self.route.again}, **layers)
        self.backbone.disable_input_require_grads()

    def activation_checkpointing_disable(self) -> None:
        """Keep again what backward needs."""
        recomputing(self.backbone, "disable")()

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: dict[str, Any] | None = None, **layers: Any
    ) -> None:
        """`activation_checkpointing_enable` by its older name, which PEFT and others call."""
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **layers)

    def gradient_checkpointing_disable(self) -> None:
        """`activation_checkpointing_disable` by its older name."""
        self.activation_checkpointing_disable()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Is any layer computed again in backward?"""
        return any(getattr(x, "gradient_checkpointing", False) for x in self.backbone.modules())

    @abstractmethod
    def run_parameters(self, run: int) -> dict[str, Tensor]:
        """The trained tensors of one run, by name: views, so that writing to them trains it."""

    @abstractmethod
    def stacked_parameters(self) -> dict[str, nn.Parameter]:
        """The trained tensors of all runs, by the names of `run_parameters`, runs first."""

    @property
    def widths(self) -> tuple[Any, ...]:
        """What the shapes of tensors and the numbers in a pass depend on besides the batch."""
        return tuple(map(len, self.run_tags))

    @property
    def trained_dtype(self) -> torch.dtype:
        """Of trained weights: float32 whatever the backbone computes in (float64 stays that)."""
        return torch.promote_types(self.loaded.dtype, torch.float32)

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
            # Without one transformers looks for sentences in the positions, and waits for a GPU.
            attention_mask=torch.ones_like(batch.token_ids, dtype=torch.bool)[None],
            packed=batch,
            **({} if self.loaded.is_encoder else {"use_cache": False}),
        ).last_hidden_state.squeeze(0)
        return states if self._finds_its_route_again() else self.route.guard(states)

    def _finds_its_route_again(self) -> bool:
        """Is nothing computed again in backward, or only with the route of the forward pass?"""
        for layer in decoder_layers(self.backbone):
            if getattr(layer, "gradient_checkpointing", False):
                given = getattr(layer._gradient_checkpointing_func, "keywords", {})
                if given.get("context_fn") != self.route.again:
                    return False
        return True

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
