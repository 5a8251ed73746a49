"""One optimizer per run, over views of the stacked parameters.

Each run clips over its own tensors and keeps its own moments, step and learning rate. The views
are what makes this exact: bitsandbytes' 8-bit optimizer cuts a tensor into blocks and leaves
small tensors in full precision, and on a view of one run both fall as if the run were alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unmask.recipe import Recipe
from unmask.stacking import own_part


class RunOptimizer:
    """AdamW over the tensors of one run.

    Args:
        stacked: parameters [runs, ...] by name; their `.grad` is read at every step.
        run: which run.
        recipe: constants and the kind of optimizer.
        num_steps: optimizer steps of the whole run, for the schedule.
        shapes: of the run's own tensors, where the stack is wider than this run.
    """

    def __init__(
        self,
        stacked: Mapping[str, nn.Parameter],
        run: int,
        recipe: Recipe,
        num_steps: int,
        shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.stacked = dict(stacked)
        self.run = run
        self.recipe = recipe
        self.num_steps = num_steps
        self.shapes = shapes or {name: p.shape[1:] for name, p in stacked.items()}
        # What is cut out of wider rows has gaps, over which an optimizer would step too: it gets
        # a copy without them.
        self.views = {
            name: nn.Parameter(self._own(p.detach(), name).contiguous())
            for name, p in stacked.items()
        }
        self.copied = [n for n, p in stacked.items() if not self._own(p, n).is_contiguous()]
        self.optimizer = build_optimizer(list(self.views.values()), recipe)
        self.num_loads = 0
        """How often states were exchanged."""

    def update(self, index: int) -> None:
        """Move this run by its gradients as they are; `index` counts steps from 0."""
        for name, view in self.views.items():
            grad = self.stacked[name].grad
            assert grad is not None, f"{name} got no gradient"
            view.grad = self._own(grad, name).contiguous()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, index, self.num_steps)
        self.optimizer.step()
        self._write_back()

    @property
    def rates(self) -> tuple[Any, ...]:
        """What decides how far a step of given gradients goes."""
        r = self.recipe
        constants = (r.learning_rate, r.beta1, r.beta2, r.epsilon, r.weight_decay)
        return (r.optimizer, *constants, r.cosine_steps_factor, self.num_steps)

    @property
    def num_updates(self) -> int:
        """Steps that its states have seen."""
        states = [self.optimizer.state.get(view, {}) for view in self.views.values()]
        return min(int(state.get("step", 0)) for state in states)

    def state(self, name: str) -> dict[str, Any]:
        """The optimizer's state of a tensor; empty before the first step."""
        return self.optimizer.state[self.views[name]]

    def _own(self, stacked: Tensor, name: str) -> Tensor:
        return own_part(stacked, self.run, self.shapes[name])

    @torch.no_grad()
    def _write_back(self) -> None:
        """Put into the stack what the optimizer moved in a copy."""
        for name in self.copied:
            self._own(self.stacked[name], name).copy_(self.views[name])

    def tensors(self, with_state: bool = True) -> dict[str, Tensor]:
        """Weights and optimizer state by name, for a checkpoint.

        A run that is through needs no state, which is twice as large as its weights.
        """
        return saved_tensors(self.views, self.optimizer, with_state)

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `tensors` gave.

        Raises:
            ValueError: when a tensor is missing, foreign or has another shape.
        """
        load_tensors(self.views, self.optimizer, tensors)
        self.num_loads += 1
        self._write_back()


def saved_tensors(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    with_state: bool = True,
) -> dict[str, Tensor]:
    """Weights and optimizer state by name, on the CPU, for a checkpoint."""
    saved = {f"weight/{name}": one.detach() for name, one in parameters.items()}
    for name, one in parameters.items() if with_state else ():
        # Not `state_dict()`, in which bitsandbytes hides its tensors from FSDP.
        for key, value in optimizer.state[one].items():
            tensor = value if isinstance(value, Tensor) else torch.tensor(value)
            saved[f"state/{name}/{key}"] = tensor
    return {name: tensor.cpu().contiguous().clone() for name, tensor in saved.items()}


def load_tensors(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
) -> None:
    """Take back what `saved_tensors` gave.

    Raises:
        ValueError: when a tensor is missing, foreign or has another shape.
    """
    states: dict[str, dict[str, Any]] = {name: {} for name in parameters}
    for key, tensor in tensors.items():
        kind, _, rest = key.partition("/")
        if kind != "state":
            continue
        name, _, field = rest.rpartition("/")
        if name not in states:
            raise ValueError(f"the checkpoint does not fit: it holds state of {name}")
        # bitsandbytes counts its steps in an int, PyTorch in a tensor of float32.
        is_int = tensor.ndim == 0 and not tensor.is_floating_point()
        states[name][field] = tensor.item() if is_int else tensor
    for name, one in parameters.items():
        saved = tensors.get(f"weight/{name}")
        if saved is None or saved.shape != one.shape:
            raise ValueError(f"the checkpoint does not fit: {name} is missing or differs")
        one.data.copy_(saved)
        optimizer.state[one] = {
            field: value.to(one.device, copy=True) if isinstance(value, Tensor) else value
            for field, value in states[name].items()
        }


def learning_rate(recipe: Recipe, step: int, num_steps: int) -> float:
    """Cosine annealing from the recipe's rate, without warm-up; `step` counts from 0."""
    progress = min(step / (num_steps * recipe.cosine_steps_factor), 1.0)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(parameters: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer that a recipe names, over the given tensors."""
    settings: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (recipe.beta1, recipe.beta2),
        "eps": recipe.epsilon,
        "weight_decay": recipe.weight_decay,
    }
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, fused=True, **settings)
    from bitsandbytes.optim.adamw import AdamW8bit

    # The same numbers as its paged twin. States of adapters are too small to be worth moving
    # between GPU and host, which costs a wait for the device at every tensor.
    return AdamW8bit(parameters, **settings)
