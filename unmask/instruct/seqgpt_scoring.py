"""SeqGPT's score: the mean of micro F1 over items and ROUGE over what was written."""

from __future__ import annotations

from collections.abc import Sequence

from unmask.instruct.examples import IEExample, Item, at_most_per_dataset
from unmask.instruct.metrics import MicroF1
from unmask.instruct.prompts import Query
from unmask.instruct.seqgpt_rouge import rouge
from unmask.instruct.system import System

RECORDS_PER_DATASET = 48
"""Records of each data set that the paper scores (section 3.1)."""


def score_answers(
    answered: Sequence[tuple[Query, Sequence[Item], str]], tokenizer: str
) -> dict[str, float]:
    """Scores of one atomic task from (query, items read, output).

    Items are exact (label, span) pairs, or labels. ROUGE is the mean over questions, the batches
    of one question together, and over ROUGE-1, -2 and -L.
    """
    metric = MicroF1()
    records: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for query, items, output in answered:
        metric.update(query.items, items)
        wanted, found = records.setdefault((query.example_id, query.about), ([], []))
        wanted.append(query.answer.strip())
        found.append(output.strip())
    values = [
        rouge("\n".join(wanted), "\n".join(found), tokenizer)["mean"]
        for wanted, found in records.values()
    ]
    counted = metric.compute()
    mean = sum(values) / len(values) if values else 0.0
    return {**counted, "rouge": mean, "score": (counted["f1"] + mean) / 2}


def benchmark_sample(
    examples: Sequence[IEExample], system: System, size: int = RECORDS_PER_DATASET
) -> list[IEExample]:
    """So many random records of each data set, in their order."""
    return at_most_per_dataset(
        examples, size, lambda dataset: system.generator(f"benchmark/{dataset}")
    )
