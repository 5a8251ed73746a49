"""Outputs of a system scored in three ways: read at all, by its own metric, and as a labeler.

The last is `unmask.analysis.scoring` over IOB2 tags of the same sentences that labelers tag, so
that both stand in one table. An output that is missing or cannot be read leaves its words O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unmask.analysis.scoring import score
from unmask.data.sentence import Span
from unmask.data.tags import tags_from_spans
from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import ParseCounts
from unmask.instruct.prompts import Query
from unmask.instruct.system import System


def score_outputs(
    system: System,
    queries: Sequence[Query],
    outputs: Mapping[str, str],
    examples: Sequence[IEExample],
    labels: LabelSet,
) -> dict[str, Any]:
    """All scores of one split.

    Returns:
        What `scoring.score` returns where examples have words (else nothing of it), with `own`
        (the system's metric), `parse` (counts by status), `num_queries` and `num_collisions`
        (queries whose gold the format cannot carry).
    """
    pairs = [(query, outputs.get(query.id, "")) for query in queries]
    counts = ParseCounts()
    for query, output in pairs:
        counts.add(system.parse(output, query))
    tagged = [example for example in examples if example.words is not None]
    scores: dict[str, Any] = {}
    if tagged:
        gold = [gold_tags(example) for example in tagged]
        scores = score(gold, predicted_tags(system, pairs, tagged, labels))
    return {
        **scores,
        "own": system.evaluate(pairs),
        "parse": counts.to_dict(),
        "num_queries": len(pairs),
        "num_collisions": sum(bool(query.collision) for query in queries),
    }


def predicted_tags(
    system: System,
    pairs: Sequence[tuple[Query, str]],
    examples: Sequence[IEExample],
    labels: LabelSet,
) -> list[tuple[str, ...]]:
    """IOB2 tags for each example that has words, O where nothing was answered about it."""
    answered: dict[str, list[tuple[Query, str]]] = {}
    for query, output in pairs:
        answered.setdefault(query.example_id, []).append((query, output))
    return [
        system.tags(example.words or (), answered.get(example.id, []), labels)
        for example in examples
    ]


def gold_tags(example: IEExample) -> tuple[str, ...]:
    """IOB2 tags of the entities that have positions."""
    spans = [
        Span(one.start, one.end, one.type)
        for one in example.of(Entity)
        if one.start is not None and one.end is not None
    ]
    return tags_from_spans(spans, len(example.words or ()))
