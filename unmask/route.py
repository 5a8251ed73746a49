"""The route: which run every token of the batch under way belongs to.

Layers of stock models take no keyword, so those of many runs ask the model's `Route`. The danger is
a route that changes between forward and backward: under reentrant gradient checkpointing the
recomputation would then silently use the wrong adapters. So the route is entered around both, a
layer called without it raises, and a guard on the model's output raises when backward runs
outside it or inside another. Where this package itself switches checkpointing on, layers that are
computed again find the batch of their forward pass by `Route.again`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock, get_ident
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unmask.kernels import dropped
from unmask.kernels.dropout import Dropout, mix
from unmask.packing import PackedBatch

NO_ROUTE = (
    "no route: call the model inside `with model.route(batch)`, and run backward inside it too"
)

LOST_ROUTE = (
    "the route of the forward pass is no longer held: run backward inside the same "
    "`with model.route(batch)` block"
)


@dataclass(frozen=True)
class Draw:
    """What dropout depends on besides the place: one seed and one micro-step per run.

    `first_tokens` are, for every run, the tokens of its micro-batch that come before those of the
    batch under way, which other processes have; empty: none.
    """

    seeds: tuple[int, ...]
    micro_steps: tuple[int, ...]
    first_tokens: tuple[int, ...] = ()

    def keys(self, modules: Sequence[int]) -> Tensor:
        """What each module's dropout is hashed from, int32 [modules, runs, 2] on the CPU.

        That is, see `Dropout.keys`, a hash and the first token. The same run draws the same mask
        alone, fused with others, in parts, and when recomputed.
        """
        seeds, steps, numbers = (
            np.array([value & 0xFFFFFFFF for value in values], dtype=np.uint64)
            for values in (self.seeds, self.micro_steps, modules)
        )
        mixed = mix(mix(seeds, steps), numbers[:, None]).astype(np.uint32).view(np.int32)
        first = np.array(self.first_tokens or (0,) * len(self.seeds), dtype=np.int32)
        return torch.from_numpy(np.stack([mixed, np.broadcast_to(first, mixed.shape)], axis=-1))


class Route:
    """Which run every token of the current batch belongs to. One per model.

    Threads that use one model take turns. Autocast is off inside: the backbone's dtype decides what
    is computed in, wherever the call comes from.

    Raises:
        RuntimeError: when entered twice, read outside, or left before backward.
    """

    def __init__(self) -> None:
        self._batch: PackedBatch | None = None
        self._keys: Tensor | None = None
        self._rows: dict[int, int] = {}
        self._ticket = 0
        self._last_ticket = 0
        self._turn = Lock()
        self._thread: int | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Route:
        """The same modules, no batch."""
        twin = memo[id(self)] = Route()
        twin._rows = dict(self._rows)
        return twin

    def add_dropout(self, module: int) -> None:
        """Tell of a module that drops elements, by a number of its own."""
        self._rows.setdefault(module, len(self._rows))

    def keys(self, draw: Draw) -> Tensor:
        """`Draw.keys` for all modules that were added."""
        return draw.keys(list(self._rows))

    @contextmanager
    def __call__(self, batch: PackedBatch, draw: Draw | Tensor | None = None) -> Iterator[None]:
        """Hold `batch` until the block ends; `draw`, or `keys` of it, switches dropout on."""
        if self._thread == get_ident():
            raise RuntimeError("the route is already entered: one batch at a time")
        device = batch.token_ids.device
        with self._turn, torch.autocast(device.type, enabled=False):
            if isinstance(draw, Draw):
                draw = self.keys(draw).to(device, non_blocking=True)
            self._last_ticket += 1
            self._thread, self._ticket = get_ident(), self._last_ticket
            self._batch, self._keys = batch, draw
            try:
                yield
            finally:
                self._batch, self._keys, self._ticket, self._thread = None, None, 0, None

    @property
    def batch(self) -> PackedBatch:
        """The batch under way."""
        if self._batch is None:
            raise RuntimeError(NO_ROUTE)
        return self._batch

    @property
    def run_offsets(self) -> Tensor:
        """int32 [runs + 1] of the batch under way, where the operations on runs want them."""
        return self.batch.run_offsets_for_kernels

    @property
    def longest(self) -> int | None:
        """Tokens of the longest sentence under way; None outside the route."""
        return None if self._batch is None else self._batch.max_seqlen

    def guard(self, hidden: Tensor) -> Tensor:
        """Hand `hidden` through; its backward raises unless this very route is still entered."""
        return _Guard.apply(hidden, self) if hidden.requires_grad else hidden

    def again(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The `context_fn` of `torch.utils.checkpoint`: around forward and around recomputation.

        A layer that is computed again finds the batch and the dropout of its forward pass, whether
        the route is still held then or has been left.
        """
        return nullcontext(), _Again(self)

    def drawn(self, probability: float, module: int) -> Dropout | None:
        """The dropout of a module in the batch under way; None where nothing is to be dropped."""
        if not probability or self._keys is None:
            return None
        return Dropout(probability, self._keys[self._rows[module]])

    def dropout(self, x: Tensor, probability: float, module: int) -> Tensor:
        """Drop elements of x [tokens, features], and scale the rest up."""
        drawn = self.drawn(probability, module)
        return x if drawn is None else dropped(x, self.run_offsets, drawn)


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, route: Route) -> Tensor:
        ctx.route, ctx.ticket = route, route._ticket
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        if ctx.route._ticket != ctx.ticket:
            raise RuntimeError(LOST_ROUTE)
        return grads[0], None


class _Again:
    """The route as it is now, whenever entered; it can be entered again."""

    def __init__(self, route: Route) -> None:
        self.route, self.ticket, self.thread = route, route._ticket, get_ident()
        self.held = route.batch, route._keys
        self.entered: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> None:
        route = self.route
        if route._ticket == self.ticket:
            self.entered = nullcontext()
        elif route._thread == self.thread:
            # To wait for it would be for ever: on a GPU backward runs in another thread.
            raise RuntimeError(LOST_ROUTE)
        else:
            self.entered = route(*self.held)
        self.entered.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.entered.__exit__(*error)
