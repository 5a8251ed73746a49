"""Forward and backward over a pack of all runs: step by step, or replayed as a CUDA graph.

Small packs leave a GPU waiting for Python: a layer is some fifty launches. A CUDA graph replays
them all with one, on the memory of the pass that was recorded. So it serves packs of one size, and
packs are filled up to sizes on a coarse grid, with sentences that have no label:

    tokens        397                      -> 448
    sentences      16                      -> 18     two more, which belong to the last run
    labelled      254                      -> 280    places of the last token, not counted

A size is recorded when it comes up the second time; the first pass compiles what it needs. The easy
mistake is to let something of one pass be read from the host while recording: a graph would repeat
it for ever. What differs from pass to pass is in `_Inputs`, and nowhere else.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unmask.kernels import triton_is_installed
from unmask.labeler_stack import LabelerStack
from unmask.packing import PackedBatch

SMALLEST_GRID = 64
"""Tokens between two sizes, and the most that a sentence which fills up has."""
PARTS = 16
"""Sizes lie at least a sixteenth to an eighth of a pack apart."""
LABELLED_PARTS = 8
MOST_GRAPHS = 64


class Size(NamedTuple):
    """What a graph is recorded for."""

    tokens: int
    sentences: int
    labelled: int
    longest: int
    stack: Any
    """What recording fixes of the runs: see `LabelerStack.widths`."""


class Passes:
    """Takes packs of one stack, gives losses, and adds to the gradients of stacked parameters."""

    def __init__(self, model: LabelerStack, with_graphs: bool) -> None:
        self.model = model
        self.with_graphs = with_graphs
        self.parameters = list(model.stacked_parameters().values())
        self._graphs: OrderedDict[Size, _Graph] = OrderedDict()
        self._seen: set[Size] = set()
        self._pool: Any = None
        self._gradients: list[Tensor | None] = []
        """What graphs add to."""

    def fitted(self, batch: PackedBatch) -> PackedBatch:
        """The pack as it is to be handed over: filled up to a size on the grid. On the CPU."""
        if not self.with_graphs:
            return batch
        grid = max(SMALLEST_GRID, _next_power_of_2(batch.num_tokens) // PARTS)
        fillers = grid // SMALLEST_GRID + 1
        tokens = -(-(batch.num_tokens + fillers) // grid) * grid
        eighth = tokens // LABELLED_PARTS
        labelled = -(-len(batch.labelled.places) // eighth) * eighth
        return batch.padded(tokens, labelled, fillers)

    def __call__(self, batch: PackedBatch, keys: Tensor, factors: Tensor) -> Tensor:
        """One pass.

        Args:
            batch: from `fitted`, on the CPU or the model's device.
            keys: of dropout, see `unmask.route.Route.keys`.
            factors: [runs], on each run's loss before it goes backward.

        Returns:
            [runs], the losses before `factors`, on the model's device and not waited for.
        """
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if not self.with_graphs:
            return self._pass(*_Inputs(batch, keys, factors).to(self.model.device))
        self._forget_moved_gradients()
        size = self._size(batch)
        graph = self._graphs.get(size)
        if graph is None and size in self._seen:
            graph = self._record(size, batch, keys, factors)
        self._seen.add(size)
        if graph is None:
            inputs = _Inputs(batch, keys, factors).to(self.model.device)
            return self._pass(*inputs.with_longest(size.longest))
        self._graphs.move_to_end(size)
        return graph.replay(batch, keys, factors)

    def _forget_moved_gradients(self) -> None:
        """Graphs would go on adding to memory that is no gradient any more."""
        now = [parameter.grad for parameter in self.parameters]
        if any(grad is not before for grad, before in zip(now, self._gradients, strict=False)):
            self._graphs.clear()
            self._pool = None  # it goes with the last graph
        self._gradients = now

    def _size(self, batch: PackedBatch) -> Size:
        model = self.model
        longest = _next_power_of_2(max(batch.max_seqlen, SMALLEST_GRID))
        labelled = len(batch.labelled.places)
        return Size(batch.num_tokens, batch.num_sentences, labelled, longest, model.widths)

    def _pass(self, batch: PackedBatch, keys: Tensor, factors: Tensor) -> Tensor:
        with self.model.route(batch, keys):
            losses = self.model.losses(batch)
            scaled = (losses * factors).sum()
            if self.with_graphs:
                # Not `backward`, whose last nodes remember the stream they were first run on.
                gradients = torch.autograd.grad(scaled, self.parameters)
                for parameter, gradient in zip(self.parameters, gradients, strict=True):
                    assert parameter.grad is not None
                    parameter.grad += gradient
            else:
                scaled.backward()
        return losses.detach()

    def _record(
        self, size: Size, batch: PackedBatch, keys: Tensor, factors: Tensor
    ) -> _Graph | None:
        """The pass as a graph; None, once and for all, when it cannot be recorded."""
        if len(self._graphs) >= MOST_GRAPHS:
            self._graphs.popitem(last=False)
        inputs = _Inputs(batch, keys, factors).to(self.model.device).with_longest(size.longest)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(self.model.device)
        try:
            with torch.cuda.device(self.model.device), torch.cuda.graph(graph, pool=self._pool):
                losses = self._pass(*inputs)
        except RuntimeError as error:
            self.with_graphs = False
            self._graphs.clear()
            warnings.warn(
                f"training goes on without CUDA graphs, which cannot hold this backbone: {error}",
                stacklevel=2,
            )
            return None
        self._pool = self._pool or graph.pool()
        self._graphs[size] = _Graph(graph, inputs, losses)
        return self._graphs[size]


class _Inputs(NamedTuple):
    """All that differs from pass to pass."""

    batch: PackedBatch
    keys: Tensor
    factors: Tensor

    def to(self, device: torch.device) -> _Inputs:
        keys, factors = (x.to(device, non_blocking=True) for x in (self.keys, self.factors))
        return _Inputs(self.batch.to(device), keys, factors)

    def with_longest(self, longest: int) -> _Inputs:
        """The same for sentences of up to so many tokens."""
        batch = replace(self.batch, max_seqlen=longest)
        for name in ("labelled", "run_offsets_for_kernels"):  # where `cached_property` keeps them
            batch.__dict__[name] = getattr(self.batch, name)
        return self._replace(batch=batch)

    def tensors(self) -> list[Tensor]:
        """Those that a pass reads on the device."""
        batch, labelled = self.batch, self.batch.labelled
        return [
            batch.token_ids, batch.position_ids, batch.cu_seqlens, batch.causal,
            batch.run_offsets_for_kernels, labelled.places, labelled.label_ids, labelled.runs,
            labelled.offsets_for_kernels, self.keys, self.factors,
        ]  # fmt: skip


class _Graph(NamedTuple):
    """A recorded pass, the memory that it reads, and where it leaves the losses."""

    graph: torch.cuda.CUDAGraph
    inputs: _Inputs
    losses: Tensor

    def replay(self, batch: PackedBatch, keys: Tensor, factors: Tensor) -> Tensor:
        new = _Inputs(batch, keys, factors).tensors()
        for place, value in zip(self.inputs.tensors(), new, strict=True):
            place.copy_(value, non_blocking=True)
        self.graph.replay()
        # The next replay of any size writes over it.
        return self.losses.clone()


def can_be_recorded(model: LabelerStack) -> bool:
    """Whether runs are told apart on the device alone, by the kernels."""
    known = model.loaded.dtype in (torch.float32, torch.float16, torch.bfloat16)
    return model.device.type == "cuda" and known and triton_is_installed()


def _next_power_of_2(value: int) -> int:
    return 1 << (value - 1).bit_length()
