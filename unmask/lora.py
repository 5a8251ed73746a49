"""LoRA for many runs on one frozen backbone.

    tokens of one pack      | run 0 ........ | run 1 .... | run 2 ........... |
    frozen W, shared        |                  x @ W.T                        |
    adapters                | A[0], B[0]     | A[1], B[1] | A[2], B[2]        |

Ranks and scalings may differ from run to run. `q_proj(x)` takes no keyword, so a layer learns the
boundaries from the model's `Route`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unmask.kernels import grouped_lora
from unmask.recipe import PAPER, Recipe
from unmask.route import Route
from unmask.stacking import own_part, replaced


@dataclass(frozen=True)
class LoraSettings:
    """The adapters' shape; defaults are the paper's."""

    rank: int = PAPER.lora_rank
    alpha: int = PAPER.lora_alpha
    dropout: float = PAPER.lora_dropout
    targets: tuple[str, ...] = PAPER.lora_targets

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError(
                f"{self} makes no adapter: rank must be at least 1, alpha above 0, dropout in "
                "[0, 1), and targets must name a layer"
            )

    @classmethod
    def from_recipe(cls, recipe: Recipe) -> LoraSettings:
        """The adapter settings of a training recipe."""
        return cls(recipe.lora_rank, recipe.lora_alpha, recipe.lora_dropout, recipe.lora_targets)


def lora_of_each(
    lora: LoraSettings | Sequence[LoraSettings] | None, num_runs: int
) -> tuple[LoraSettings, ...]:
    """The adapters' shape of each run, from one for all or a sequence of them.

    Raises:
        ValueError: when there are more or fewer than runs, or their targets or dropout differ.
    """
    if lora is None or isinstance(lora, LoraSettings):
        return (lora or LoraSettings(),) * num_runs
    if len(lora) != num_runs:
        raise ValueError(f"adapters for {len(lora)} runs, but there are {num_runs}")
    for name in ("targets", "dropout"):
        found = sorted({getattr(one, name) for one in lora})
        if len(found) > 1:
            raise ValueError(f"the runs of a stack need the same LoRA {name}, got {found}")
    return tuple(lora)


class GroupedLoRALinear(nn.Module):
    """A frozen linear layer plus one low-rank update per run.

    Initialised like PEFT: A uniform in ±1/sqrt(in_features), B zero, each run from its own
    generator so that it starts the same alone and fused. Runs of a smaller rank than the stack's
    have zeros beyond theirs, see `unmask.stacking`.
    """

    scaling: Tensor

    def __init__(
        self,
        base: nn.Module,
        features: tuple[int, int],
        settings: Sequence[LoraSettings],
        route: Route,
        index: int,
        generators: Sequence[torch.Generator],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.base = base
        self.route = route
        self.index = index
        self.dropout = settings[0].dropout
        route.add_dropout(index)
        self.in_features, self.out_features = features
        runs, rank = len(settings), max(one.rank for one in settings)
        self.ranks = (0,) * runs
        self.scalings = (0.0,) * runs
        # The same on the device.
        self.register_buffer("scaling", torch.zeros(runs, 1, 1, dtype=dtype), persistent=False)
        self.lora_A = nn.Parameter(torch.zeros(runs, rank, self.in_features, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(runs, self.out_features, rank, dtype=dtype))
        for run, (own, generator) in enumerate(zip(settings, generators, strict=True)):
            self.begin(run, own, generator)

    @torch.no_grad()
    def begin(self, run: int, settings: LoraSettings, generator: torch.Generator) -> None:
        """Put fresh matrices in the place of a run; the stack must be as wide as they are."""
        self.ranks = replaced(self.ranks, run, settings.rank)
        self.scalings = replaced(self.scalings, run, settings.alpha / settings.rank)
        self.scaling[run] = settings.alpha / settings.rank
        bound = 1 / math.sqrt(self.in_features)
        # Drawn on the CPU: the same numbers whatever the device.
        start = torch.empty(settings.rank, self.in_features, dtype=self.lora_A.dtype)
        start.uniform_(-bound, bound, generator=generator)
        self.lora_A[run].zero_()
        self.lora_B[run].zero_()
        own_part(self.lora_A, run, start.shape).copy_(start)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., tokens, in_features] of one pack -> the same with out_features."""
        base = self.base(x)
        lora_b, scaling = self.lora_B, self.scalings[0]
        if len(set(self.scalings)) > 1:
            lora_b, scaling = lora_b * self.scaling, 1.0
        out = grouped_lora(
            base.flatten(0, -2),
            x.flatten(0, -2),
            self.lora_A,
            lora_b,
            self.route.run_offsets,
            scaling,
            self.route.drawn(self.dropout, self.index) if self.training else None,
        )
        return out.view_as(base)

    def matrices(self, run: int) -> tuple[Tensor, Tensor]:
        """Views of A [rank, in_features] and B [out_features, rank] of one run."""
        rank = self.ranks[run]
        return (
            own_part(self.lora_A, run, (rank, self.in_features)),
            own_part(self.lora_B, run, (self.out_features, rank)),
        )

    def merged_weight(self, weight: Tensor, run: int) -> Tensor:
        """`weight` [out_features, in_features] plus the update of one run, for export."""
        place = "cpu" if weight.device.type == "mps" else weight.device  # mps has no float64
        lora_a, lora_b = (part.to(place).double() for part in self.matrices(run))
        update = self.scalings[run] * (lora_b @ lora_a)
        return (weight.to(place).double() + update).to(weight)


class RoutedDropout(nn.Module):
    """Dropout of an encoder's own layers, drawn per run like that of the adapters."""

    def __init__(self, probability: float, route: Route, index: int) -> None:
        super().__init__()
        self.probability = probability
        self.route = route
        self.index = index
        route.add_dropout(index)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., tokens, features] -> the same shape."""
        if not self.training:
            return x
        flat = x.reshape(-1, x.shape[-1])
        return self.route.dropout(flat, self.probability, self.index).view_as(x)


def route_dropout(backbone: nn.Module, route: Route, first_index: int) -> None:
    """Let an encoder's own dropout draw per run, like everything random here."""
    plain = [
        (name, module)
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Dropout) and module.p > 0
    ]
    for index, (name, module) in enumerate(plain, start=first_index):
        backbone.set_submodule(name, RoutedDropout(module.p, route, index))


def unroute_dropout(backbone: nn.Module) -> None:
    """Undo `route_dropout`."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, RoutedDropout):
            backbone.set_submodule(name, nn.Dropout(module.probability))


def inject(
    backbone: nn.Module,
    targets: Iterable[str],
    build: Callable[[nn.Module, tuple[int, int], int], GroupedLoRALinear],
) -> list[tuple[str, GroupedLoRALinear]]:
    """Replace every linear layer whose last name is in `targets` by what `build` makes of it.

    Returns:
        Names and new layers, in the order of the model.

    Raises:
        ValueError: when a target names no layer.
    """
    # All are built before the first is put in: memory may run out on the way, and a backbone with
    # half of its layers replaced could not be used again.
    layers = [
        (name, build(module, (int(module.in_features), int(module.out_features)), index))  # pyright: ignore[reportArgumentType]
        for index, (name, module) in enumerate(target_layers(backbone, targets))
    ]
    for name, layer in layers:
        backbone.set_submodule(name, layer)
    return layers


def target_layers(backbone: nn.Module, targets: Iterable[str]) -> list[tuple[str, nn.Module]]:
    """Names and modules of the linear layers whose last name is in `targets`, in model order.

    Raises:
        ValueError: when a target names no layer.
    """
    wanted = set(targets)
    found = [
        (name, module)
        for name, module in backbone.named_modules()
        if name.rsplit(".", 1)[-1] in wanted and hasattr(module, "in_features")
    ]
    missing = wanted - {name.rsplit(".", 1)[-1] for name, _ in found}
    if missing:
        linear = {
            name.rsplit(".", 1)[-1]
            for name, module in backbone.named_modules()
            if hasattr(module, "in_features")
        }
        raise ValueError(
            f"LoRA targets {sorted(missing)} name no layer of {type(backbone).__name__}; "
            f"its linear layers are {sorted(linear)}"
        )
    return found
