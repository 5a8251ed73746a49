"""Counts of true, predicted and gold items, and the ratios made of them.

Undefined ratios are 0, as in `unmask.analysis.scoring`. Each published system's own deviations
live beside that system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass
class MicroF1:
    """Items that match exactly, summed over queries.

    `update` compares multisets: an item that is predicted twice and is gold once is one hit and
    one false alarm. Hand in sets where duplicates shall merge.
    """

    hits: float = 0.0
    num_predicted: int = 0
    num_gold: int = 0

    def update(self, gold: Iterable[Hashable], predicted: Iterable[Hashable]) -> None:
        """Count one query."""
        gold_counts, predicted_counts = Counter(gold), Counter(predicted)
        self.hits += (gold_counts & predicted_counts).total()
        self.num_predicted += predicted_counts.total()
        self.num_gold += gold_counts.total()

    def compute(self) -> dict[str, float]:
        """`precision`, `recall`, `f1` in 0..1 and the counts."""
        precision = self.hits / self.num_predicted if self.num_predicted else 0.0
        recall = self.hits / self.num_gold if self.num_gold else 0.0
        total = precision + recall
        return {
            "precision": precision,
            "recall": recall,
            "f1": 2 * precision * recall / total if total else 0.0,
            "hits": self.hits,
            "num_predicted": self.num_predicted,
            "num_gold": self.num_gold,
        }


def mean_over_datasets(scores: Mapping[str, Mapping[str, float]], key: str = "f1") -> float:
    """The unweighted mean of one score over data sets; 0 when there are none."""
    values = [score[key] for score in scores.values()]
    return sum(values) / len(values) if values else 0.0


def accuracy(correct: Sequence[bool]) -> dict[str, float]:
    """The share that is right, with its count."""
    share = sum(correct) / len(correct) if correct else 0.0
    return {"accuracy": share, "num_queries": len(correct)}
