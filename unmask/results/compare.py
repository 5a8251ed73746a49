"""Is one configuration better than another? Paired over seeds, and over sentences.

The two say different things: over seeds, whether training anew would give the same order; over
sentences, whether another sample of text would. Neither stands in for the other. P-values of
several pairs are corrected together by Holm's method, each kind by itself. The one thing that
is easy to get wrong: neither intervals are corrected, nor is anything for how the sides came to be
compared, and the text says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from unmask.results.groups import Group
from unmask.results.output_side import published_test, seed_test
from unmask.results.over_sentences import (
    CountsOf,
    OverSentences,
    compare_over_sentences,
)
from unmask.results.run import RunResult
from unmask.results.statistics import (
    Comparison,
    compare,
    f1_of,
    holm_where_known,
    seed_scores,
)
from unmask.results.tables import counted


@dataclass(frozen=True)
class Pair:
    """First minus second on one split; a part that cannot be had is None."""

    first: str
    second: str
    split: str
    over_seeds: Comparison | None
    over_sentences: OverSentences | None
    p_holm: float | None = None
    """Of `over_seeds.p_value`, corrected for all pairs compared."""


def compare_in_group(
    group: Group, names: Sequence[str], split: str, counts_of: CountsOf
) -> list[Pair]:
    """Every pair of the named configurations or baselines of one group.

    Args:
        group: results of one task, backbone and recipe.
        names: codes as in the ledger, or baselines by name; two or more.
        split: "validation" or "test".
        counts_of: finds counts per sentence.

    Raises:
        ValueError: for a name that the group does not have, or fewer than two.
    """
    if len(set(names)) < 2:
        raise ValueError("name two or more different configurations to compare")
    sides = {name: _results_of(group, name) for name in names}
    pairs = [
        Pair(
            first,
            second,
            split,
            compare(_f1_by_seed(sides[first], split), _f1_by_seed(sides[second], split)),
            compare_over_sentences(sides[first], sides[second], split, counts_of),
        )
        for first, second in combinations(dict.fromkeys(names), 2)
    ]
    return corrected(pairs)


def corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with Holm's correction put in, over seeds and over sentences."""
    by_seeds = holm_where_known([p.over_seeds and p.over_seeds.p_value for p in pairs])
    by_sentences = holm_where_known([p.over_sentences and p.over_sentences.p_value for p in pairs])
    return [
        replace(
            pair,
            p_holm=of_seeds,
            over_sentences=pair.over_sentences
            and replace(pair.over_sentences, p_holm=of_sentences),
        )
        for pair, of_seeds, of_sentences in zip(pairs, by_seeds, by_sentences, strict=True)
    ]


def to_json(pairs: Sequence[Pair], group: Group | None = None) -> dict[str, Any]:
    """Plain JSON values; with a group the output-side tests beside the pairs."""
    values: dict[str, Any] = {"pairs": [asdict(pair) for pair in pairs]}
    if group is not None:
        published, sound = _output_side(group, pairs[0].split)
        values = {
            "title": group.title,
            "task": group.task,
            "backbone": group.backbone,
            **values,
            "opening_more_near_output": {
                "published_test": published and asdict(published),
                "over_seeds": sound and asdict(sound),
            },
        }
    return values


def to_text(pairs: Sequence[Pair], group: Group | None = None) -> str:
    """What a person reads."""
    lines = [] if group is None else [group.title]
    for pair in pairs:
        lines.append(f"{pair.first} minus {pair.second}, {pair.split} F1")
        if group is not None:  # saved labelers have one seed each
            lines.append(f"  over seeds:     {_seeds_in_words(pair)}")
        lines.append(f"  over sentences: {_sentences_in_words(pair.over_sentences)}")
    if group is not None:
        lines += _output_side_in_words(group, pairs[0].split)
    if len(pairs) > 1:
        lines.append(f"Holm's correction is for these {len(pairs)} pairs; intervals have none.")
    if group is not None:
        lines.append(
            "A side that was chosen for its score is ahead partly by luck, on test as well: "
            "unmask report corrects for that, this does not."
        )
    return "\n".join(lines)


def _results_of(group: Group, name: str) -> list[RunResult]:
    found = [result for result in group.results if result.run.config == name]
    found += group.baselines.get(name, ())
    if not found:
        known = ", ".join([*group.codes, *group.baselines])
        raise ValueError(f"{group.title} has no results of {name}; there are {known}")
    return found


def _f1_by_seed(results: Sequence[RunResult], split: str) -> dict[int, float]:
    scored = {result.run.seed: f1_of(result, split) for result in results}
    return {seed: f1 for seed, f1 in scored.items() if f1 is not None}


def _output_side(group: Group, split: str) -> tuple[Any, Any]:
    scores = seed_scores(group.results, split)
    return published_test(scores), seed_test(scores)


def _output_side_in_words(group: Group, split: str) -> list[str]:
    published, sound = _output_side(group, split)
    if published is None:
        return []
    lines = [f"opening more near the output, {counted(published.num_pairs, 'pair')}, {split} F1"]
    for name, test, noun, more in (
        ("published test", published, "pair", ", taken as independent"),
        ("over seeds", sound, "seed", ""),
    ):
        if test is not None:
            gain = f"gain {test.gain:+.4f}"
            count = f"{counted(test.num_observations, noun)}{more}"
            lines.append(f"  {name + ':':<16}{gain}, one-sided {_p(test.p_value)}, {count}")
    return lines


def _seeds_in_words(pair: Pair) -> str:
    found = pair.over_seeds
    if found is None:
        there = " (sweep --test all scores every configuration there)"
        on = pair.split + (there if pair.split == "test" else "")
        return f"no seed that both were scored with on {on}"
    text = f"{found.difference:+.4f}{_interval(found.interval)}, {_p(found.p_value)}"
    return f"{text}{_holm_in_words(pair.p_holm)}, {counted(found.num_seeds, 'shared seed')}"


def _sentences_in_words(found: OverSentences | None) -> str:
    if found is None:
        return "no counts per sentence were kept for both"
    text = f"{found.difference:+.4f}{_interval(found.interval)}, {_p(found.p_value)}"
    sentences = f"{found.num_sentences} sentences, runs a side: {found.num_runs}"
    return f"{text}{_holm_in_words(found.p_holm)}, {sentences}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" (95 %: {interval[0]:+.4f} to {interval[1]:+.4f})"


def _holm_in_words(p_value: float | None) -> str:
    return "" if p_value is None else f" (Holm {_p(p_value)})"


def _p(value: float | None) -> str:
    if value is None:
        return "no p-value (too few or no spread)"
    # A p-value is never 0, so it is not written as one.
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.4f}"
