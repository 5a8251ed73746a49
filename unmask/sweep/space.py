"""What a search may choose: which groups of layers look right and, if wanted, parts of the recipe.

A candidate is one point of the space: an unmasking code, a bit a group, and the fields of the
recipe that are searched over. Optuna sees one parameter a bit and one a field.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from unmask.config import UnmaskConfig, group_sizes
from unmask.recipe import Recipe

SEARCHED_FIELDS = ("learning_rate", "lora_rank", "lora_targets")

TARGETS_JOINED_BY = "+"


@dataclass(frozen=True)
class Dimension:
    """A field of the recipe that is searched over: its choices, or a range on a log scale."""

    field: str
    choices: tuple[str, ...] = ()
    """As they are written on the command line, which is also how Optuna keeps them."""
    low: float = 0.0
    high: float = 0.0

    @property
    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        return FloatDistribution(self.low, self.high, log=True)

    def value(self, parameter: Any) -> Any:
        """The field's value for a parameter of Optuna's."""
        if self.field == "lora_targets":
            return tuple(parameter.split(TARGETS_JOINED_BY))
        return int(parameter) if self.field == "lora_rank" else float(parameter)

    def parameter(self, recipe: Recipe) -> Any:
        """Optuna's parameter for the recipe's own value.

        Raises:
            ValueError: when the recipe's value lies outside the dimension.
        """
        own = getattr(recipe, self.field)
        if self.choices:
            found = [choice for choice in self.choices if self.value(choice) == own]
            if found:
                return found[0]
        elif self.low <= own <= self.high:
            return own
        raise ValueError(
            f"--search-over {self.text}: the recipe has {self.field} {_in_words(own)}, none of "
            "these, and the search begins with it; add it, or change the recipe by its flag"
        )

    def draw(self, rng: random.Random) -> Any:
        """A parameter by chance."""
        if self.choices:
            return rng.choice(self.choices)
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))

    @property
    def text(self) -> str:
        """As on the command line."""
        values = ",".join(self.choices) if self.choices else f"{self.low:g}..{self.high:g}"
        return f"{self.field}={values}"


def parse_dimension(text: str) -> Dimension:
    """One value of `--search-over`.

    Raises:
        ValueError: for a field that is not searched over, or values that cannot be.

    >>> parse_dimension("learning_rate=1e-4..1e-2").high
    0.01
    >>> parse_dimension("lora_rank=8,16").choices
    ('8', '16')
    """
    field, _, values = text.partition("=")
    if field not in SEARCHED_FIELDS:
        raise ValueError(
            f"--search-over takes {', '.join(SEARCHED_FIELDS)}, each with =VALUE,VALUE,... or "
            f"=LOW..HIGH, got {text!r}"
        )
    low, dots, high = values.partition("..")
    choices = tuple(one.strip() for one in values.split(","))
    try:
        if dots:
            dimension = Dimension(field, low=float(low), high=float(high))
            fits = field == "learning_rate" and 0 < dimension.low < dimension.high < math.inf
        else:
            dimension = Dimension(field, choices)
            # The recipe knows what a field may be.
            for choice in choices:
                replace(Recipe(), **{field: dimension.value(choice)})
            fits = len(set(choices)) == len(choices) and all(choices)
    except ValueError as error:
        raise ValueError(f"--search-over {text}: {error}") from None
    if not fits:
        raise ValueError(
            f"--search-over {text}: choices must differ, and a range needs LOW below HIGH and "
            "learning_rate"
        )
    return dimension


@dataclass(frozen=True)
class Candidate:
    """A point of a space: a code, and the recipe's changed fields by name, sorted."""

    code: str
    changes: tuple[tuple[str, Any], ...] = ()

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the changes."""
        return replace(recipe, **dict(self.changes))

    def __str__(self) -> str:
        changes = (f"{name} {_in_words(value)}" for name, value in self.changes)
        return ", ".join([self.code, *changes])


@dataclass(frozen=True)
class Space:
    """The candidates of one search, and the names of Optuna's parameters."""

    num_layers: int
    num_groups: int
    dimensions: tuple[Dimension, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the bits, input side first; they sort in the order of the layers.

        >>> Space(num_layers=12, num_groups=5).names[:2]
        ['layers_00_02', 'layers_03_05']
        """
        digits = len(str(self.num_layers - 1))
        names, first = [], 0
        for size in group_sizes(self.num_groups, self.num_layers):
            last = first + size - 1
            names.append(
                f"layer_{first:0{digits}}"
                if size == 1
                else f"layers_{first:0{digits}}_{last:0{digits}}"
            )
            first += size
        return names

    @property
    def size(self) -> float:
        """How many candidates there are; infinite with a range."""
        choices = (len(one.choices) or math.inf for one in self.dimensions)
        return 2**self.num_groups * math.prod(choices)

    @property
    def ends(self) -> tuple[str, str]:
        """All causal and all open."""
        return "0" * self.num_groups, "1" * self.num_groups

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's parameters."""
        return {**bit_space(self.names), **{one.field: one.distribution for one in self.dimensions}}

    def candidate(self, params: Mapping[str, Any]) -> Candidate | None:
        """What Optuna's parameters mean; None when some are missing."""
        if not set(self.distributions) <= set(params):
            return None
        code = "".join(str(int(params[name])) for name in self.names)
        return Candidate(code, self.changes(params))

    def changes(self, params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """The fields of the recipe that parameters change."""
        return tuple(sorted((one.field, one.value(params[one.field])) for one in self.dimensions))

    def params(self, code: str, recipe: Recipe) -> dict[str, Any]:
        """Optuna's parameters for a code with the recipe's own values.

        Raises:
            ValueError: when a value of the recipe lies outside its dimension.
        """
        bits = dict(zip(self.names, map(int, code), strict=True))
        return {**bits, **{one.field: one.parameter(recipe) for one in self.dimensions}}

    def flags(self, code: str) -> tuple[bool, ...]:
        """One flag a layer."""
        return UnmaskConfig.parse(code, self.num_layers).bidirectional

    def code(self, config: str) -> str:
        """The code in this space that opens the same layers as `config`.

        Raises:
            ValueError: when none does, because a group would be half open.
        """
        flags, bits, first = self.flags(config), "", 0
        for size in group_sizes(self.num_groups, self.num_layers):
            of_group = set(flags[first : first + size])
            if len(of_group) > 1:
                raise ValueError(
                    f"--configs: {config} opens part of a group of layers, and the search is over "
                    f"{self.num_groups} groups; leave it out or raise --groups"
                )
            bits += "01"[of_group.pop()]
            first += size
        return bits


def bit_space(names: Sequence[str]) -> dict[str, BaseDistribution]:
    """One choice between 0 and 1 per name."""
    return {name: CategoricalDistribution((0, 1)) for name in names}


def _in_words(value: Any) -> str:
    return TARGETS_JOINED_BY.join(value) if isinstance(value, tuple) else f"{value:.4g}"
