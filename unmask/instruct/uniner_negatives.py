"""Entity types that a passage does not have, to be asked about with the answer `[]`.

How many a passage gets is stated neither in the paper nor in the code, so it is a setting. Types
compare without regard to case when it is asked whether a passage has them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable
from itertools import accumulate

STRATEGIES = ("none", "uniform", "frequency")


class NegativeSampler:
    """Draws absent types, each equally likely or as likely as it is frequent.

    Args:
        counts: mentions of each type in the whole data set; a type that shall be drawn under
            "uniform" only may count 0.
        strategy: one of STRATEGIES.
    """

    def __init__(self, counts: Counter[str], strategy: str) -> None:
        if strategy not in STRATEGIES:
            raise ValueError(f"negatives must be one of {', '.join(STRATEGIES)}, got {strategy!r}")
        self.strategy = strategy
        if strategy == "frequency":
            counts = Counter({name: count for name, count in counts.items() if count > 0})
        self.names = sorted(counts)
        weights = [counts[name] if strategy == "frequency" else 1 for name in self.names]
        self.weights = dict(zip(self.names, weights, strict=True))
        self.cumulative = list(accumulate(weights))

    def draw(self, positives: Collection[str], number: int, generator: random.Random) -> list[str]:
        """Up to `number` types that are not among `positives`, without replacement."""
        if self.strategy == "none" or number < 1 or not self.names:
            return []
        refused = {name.casefold() for name in positives}
        drawn: list[str] = []
        # Drawing again what was refused keeps the odds of the others; it is quick unless almost
        # everything is refused, and then the exact way below takes over.
        for _ in range(4 * number):
            if len(drawn) == number:
                return drawn
            (name,) = generator.choices(self.names, cum_weights=self.cumulative)
            if name.casefold() not in refused:
                refused.add(name.casefold())
                drawn.append(name)
        return drawn + self._draw_by_keys(refused, number - len(drawn), generator)

    def _draw_by_keys(
        self, refused: Iterable[str], number: int, generator: random.Random
    ) -> list[str]:
        """Weighted sampling without replacement by random keys (Efraimidis and Spirakis, 2006)."""
        left = [name for name in self.names if name.casefold() not in set(refused)]
        keys = {name: generator.random() ** (1 / self.weights[name]) for name in left}
        return sorted(left, key=keys.__getitem__, reverse=True)[:number]
