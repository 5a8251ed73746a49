"""Clipping and updates of all runs of a stack: one call for runs that step alike.

Runs that end a window together, at the same step and rate, are moved by one optimizer over the
stacked tensors. Every element gets the update that its own run's optimizer would give it: AdamW
knows no neighbours (PyTorch's may round the last bit otherwise at the end of a tensor), and
bitsandbytes' knows those in its block of 256, so a stacked tensor is taken only where blocks end
where runs do. Their states are then views of stacked states, and each run's own optimizer goes on
from them whenever it steps by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unmask.training.gradients import Gradients
from unmask.training.optimizer import RunOptimizer, build_optimizer, learning_rate

BLOCK = 256
"""Elements that share a scale in bitsandbytes' 8-bit states."""
SHARED = ("step", "qmap1", "qmap2")
"""What states hold that is the same for all runs that step alike."""


class StackUpdate:
    """Steps the runs of a stack; `optimizers` may be exchanged in place."""

    def __init__(
        self, stacked: Mapping[str, nn.Parameter], optimizers: Sequence[RunOptimizer]
    ) -> None:
        self.stacked = dict(stacked)
        self.gradients = Gradients(self.stacked.values())
        self.optimizers = optimizers
        self._together: torch.optim.Optimizer | None = None
        self._joined: list[tuple[RunOptimizer, int]] = []
        self._by_itself: list[str] = []
        self._counting: list[tuple[nn.Parameter, list[dict[str, Any]]]] = []
        """Tensors that step together, and each run's state of them."""
        self._apart = True

    def norms(self) -> Tensor:
        """[runs]: the norms of their gradients."""
        return self.gradients.norms()

    @torch.no_grad()
    def step(self, steps: Mapping[int, int], norms: Sequence[float]) -> None:
        """Clip, update and clear the gradients of some runs.

        Args:
            steps: which runs, and how many optimizer steps each has done.
            norms: of all runs, as `norms` gave them; a run whose is not finite is only cleared.
        """
        going = {run: at for run, at in steps.items() if norms[run] < float("inf")}
        self._clip(going, norms)
        if self._are_alike(going):
            self._step_together(next(iter(going.values())))
        else:
            self._part()
            for run, at in going.items():
                self.optimizers[run].update(at)
        self.gradients.clear(list(steps))

    def _clip(self, going: Mapping[int, int], norms: Sequence[float]) -> None:
        """As `torch.nn.utils.clip_grad_norm_` for each run; others keep what they have."""
        factors = [1.0] * len(self.optimizers)
        for run in going:
            limit = self.optimizers[run].recipe.max_grad_norm
            factors[run] = min(1.0, limit / (norms[run] + 1e-6))
        if min(factors) < 1.0:
            self.gradients.scale(factors)

    def _are_alike(self, going: Mapping[int, int]) -> bool:
        """Do all runs step, at one step and rate, over tensors without gaps?"""
        first = self.optimizers[0]
        return (
            1 < len(self.optimizers) == len(going)
            and len(set(going.values())) == 1
            and all(own.rates == first.rates and not own.copied for own in self.optimizers)
            and (self._joined == self._present() or self._can_join())
        )

    def _can_join(self) -> bool:
        """Not before the first step, which makes the states."""
        updates = {own.num_updates for own in self.optimizers}
        return len(updates) == 1 and updates != {0}

    def _step_together(self, at: int) -> None:
        if self._together is None or self._joined != self._present():
            self._together = self._join()
        if self._apart:
            self._share_steps()
        first = self.optimizers[0]
        for group in self._together.param_groups:
            group["lr"] = learning_rate(first.recipe, at, first.num_steps)
        for run, optimizer in enumerate(self.optimizers):
            for name in self._by_itself:
                optimizer.views[name].grad = _grad(self.stacked[name])[run]
        self._together.step()
        self._pass_on_steps()

    def _present(self) -> list[tuple[RunOptimizer, int]]:
        return [(optimizer, optimizer.num_loads) for optimizer in self.optimizers]

    def _join(self) -> torch.optim.Optimizer:
        """An optimizer over stacked tensors; the runs' own states become views of its states."""
        runs = self.optimizers
        self._by_itself = [name for name in self.stacked if not _ends_with_a_block(runs[0], name)]
        parameters = [p for name, p in self.stacked.items() if name not in self._by_itself]
        parameters += [run.views[name] for name in self._by_itself for run in runs]
        together = build_optimizer(parameters, runs[0].recipe)
        self._counting = []
        for name, parameter in self.stacked.items():
            states = [run.state(name) for run in runs]
            if name in self._by_itself:
                for run, state in zip(runs, states, strict=True):
                    together.state[run.views[name]] = state
                continue
            self._counting.append((parameter, states))
            for key in [key for key in states[0] if key not in SHARED]:
                stacked = torch.stack([state[key] for state in states])
                for state, own in zip(states, stacked, strict=True):
                    state[key] = own
                is_by_block = stacked.shape != parameter.shape
                together.state[parameter][key] = stacked.flatten() if is_by_block else stacked
            together.state[parameter] |= {k: states[0][k] for k in SHARED if k in states[0]}
        self._joined, self._apart = self._present(), True
        return together

    def _share_steps(self) -> None:
        """Let the stacked states count on from where the runs are."""
        assert self._together is not None
        for parameter, states in self._counting:
            step = states[0]["step"]
            own = step.clone() if isinstance(step, Tensor) else step
            self._together.state[parameter]["step"] = own
        self._apart = False

    def _pass_on_steps(self) -> None:
        """PyTorch counts in tensors, which are shared once; bitsandbytes in whole numbers."""
        assert self._together is not None
        for parameter, states in self._counting:
            step = self._together.state[parameter]["step"]
            if states[0]["step"] is not step:
                for state in states:
                    state["step"] = step

    def _part(self) -> None:
        """Let every run count for itself again."""
        if self._together is None or self._apart:
            return
        for run in self.optimizers:
            for name in self.stacked:
                step = run.state(name).get("step")
                if isinstance(step, Tensor):
                    run.state(name)["step"] = step.clone()
        self._apart = True


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _ends_with_a_block(run: RunOptimizer, name: str) -> bool:
    first = run.state(name).get("state1")
    return first is None or first.dtype != torch.uint8 or first.numel() % BLOCK == 0
