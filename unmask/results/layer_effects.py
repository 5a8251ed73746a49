"""What opening each group of layers does to F1, from all configurations together.

Three questions a group, because groups may need each other: what it adds when it is opened alone,
when it is opened last, and on average over what the others do. The average is the coefficient of
the group's bit in a least-squares fit of F1 on all bits, seed by seed; where all configurations
were run this is exactly the mean difference between those with the bit and those without. The one
thing that is easy to get wrong: after a search the configurations are not balanced, so the average
then rests on effects adding up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from unmask.config import group_sizes
from unmask.results.groups import is_bit_code
from unmask.results.statistics import Comparison, SeedScores, compare, holm_where_known


@dataclass(frozen=True)
class LayerEffect:
    """One group of layers; `number` counts from 1 at the input, `layers` from 0 (both ends in).

    Each effect is F1 with the group open minus F1 with it causal, paired over seeds, and None
    where the configurations it needs were not scored. `p_holm` corrects the average's p-value for
    the number of groups.
    """

    number: int
    layers: tuple[int, int] | None
    average: Comparison | None
    alone: Comparison | None
    last: Comparison | None
    p_holm: float | None = None

    @property
    def name(self) -> str:
        """Where the group lies: "0-7" in layers, or "group 1" when their number is unknown."""
        if self.layers is None:
            return f"group {self.number}"
        low, high = self.layers
        return f"{low}-{high}" if high > low else str(low)


def layer_effects(scores: SeedScores, num_layers: int | None = None) -> tuple[LayerEffect, ...]:
    """One effect per group, input side first; empty when nothing can be said.

    Codes of the commonest length are used, layer sets are not.

    Args:
        scores: F1 by configuration and seed.
        num_layers: of the backbone, to name layers.
    """
    lengths = Counter(len(code) for code in scores if is_bit_code(code))
    if not lengths:
        return ()
    length = max(lengths, key=lambda one: (lengths[one], -one))
    of_length = {code: scores[code] for code in scores if is_bit_code(code) and len(code) == length}
    averages = _averages(of_length, length)
    adjusted = holm_where_known([one and one.p_value for one in averages])
    found = tuple(
        LayerEffect(
            index + 1,
            _layers(index, length, num_layers),
            averages[index],
            compare(of_length.get(_only(index, length), {}), of_length.get("0" * length, {})),
            compare(of_length.get("1" * length, {}), of_length.get(_all_but(index, length), {})),
            adjusted[index],
        )
        for index in range(length)
    )
    says_something = any(one.average or one.alone or one.last for one in found)
    return found if says_something else ()


def _averages(scores: SeedScores, length: int) -> list[Comparison | None]:
    """Per bit the coefficient of the fit over seeds; None where no seed can be fitted."""
    by_seed: dict[int, dict[str, float]] = {}
    for code, of_seeds in scores.items():
        for seed, f1 in of_seeds.items():
            by_seed.setdefault(seed, {})[code] = f1
    fitted = {seed: _fit(of_codes, length) for seed, of_codes in by_seed.items()}
    known = {seed: effects for seed, effects in fitted.items() if effects is not None}
    nothing = dict.fromkeys(known, 0.0)
    return [
        compare({seed: effects[index] for seed, effects in known.items()}, nothing)
        for index in range(length)
    ]


def _fit(f1_of_code: Mapping[str, float], length: int) -> list[float] | None:
    """Least-squares effect of each bit; None where the configurations do not determine it."""
    import numpy as np

    design = np.array([[1.0, *map(float, code)] for code in f1_of_code])
    solution, _, rank, _ = np.linalg.lstsq(design, np.array(list(f1_of_code.values())))
    return None if rank <= length else [float(one) for one in solution[1:]]


def _only(index: int, length: int) -> str:
    return "".join("1" if place == index else "0" for place in range(length))


def _all_but(index: int, length: int) -> str:
    return "".join("0" if place == index else "1" for place in range(length))


def _layers(index: int, length: int, num_layers: int | None) -> tuple[int, int] | None:
    if num_layers is None or num_layers < length:
        return None
    sizes = group_sizes(length, num_layers)
    first = sum(sizes[:index])
    return first, first + sizes[index] - 1
