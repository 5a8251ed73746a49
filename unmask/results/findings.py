"""What a group of results says: the choice, the gains with intervals, the rows of the tables.

Facts only, no layout: the HTML page, the Markdown and the terminal table all read these. The one
thing that is easy to get wrong: the chosen configuration was picked for being high on validation.
Gains are therefore taken on the test split where both sides were scored on it. But the same runs
are scored there, and those that were lucky on validation are lucky on test too, so p-values over
seeds are corrected for the choice on both splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unmask.config import group_sizes
from unmask.results.groups import (
    LAYERS_PREFIX,
    Group,
    is_bit_code,
    is_fully_causal,
    is_fully_open,
)
from unmask.results.layer_effects import LayerEffect, layer_effects
from unmask.results.output_side import (
    OutputSideTest,
    PairTest,
    pair_tests,
    published_test,
    seed_test,
)
from unmask.results.over_sentences import CountsOf, OverSentences, compare_over_sentences
from unmask.results.run import RunResult
from unmask.results.statistics import (
    Comparison,
    Summary,
    choose_configuration,
    compare,
    f1_of,
    holm_where_known,
    seed_scores,
    summarize,
    validation_test_correlation,
)

if TYPE_CHECKING:
    from unmask.results.kept_mistakes import MistakesFound

MAX_EXHAUSTIVE_GROUPS = 6
"""Codes up to this long are usually all run; longer ones are searched."""


MAX_PAIR_TESTED = 2**MAX_EXHAUSTIVE_GROUPS
"""Configurations up to which single pairs are tested; of more, no pair survives a correction."""


@dataclass(frozen=True)
class Row:
    """One configuration or baseline over its seeds; a split without scores is None."""

    name: str
    validation: Summary | None
    test: Summary | None
    results: tuple[RunResult, ...]
    is_baseline: bool = False

    @property
    def num_diverged(self) -> int:
        """Runs that ended with a loss that was not a number."""
        return sum(one.status == "diverged" for one in self.results)


@dataclass(frozen=True)
class Gain:
    """The chosen configuration against another, paired over seeds, on one split.

    `p_corrected` is the p-value over seeds by Holm's method over all gains of the group, times
    `num_rivals`, the configurations that could have been chosen instead. `over_sentences` is None
    where no counts per sentence were kept; its `p_holm` has that factor on validation only, since
    test sentences took no part in the choice.
    """

    against: str
    split: str
    comparison: Comparison
    over_sentences: OverSentences | None = None
    p_corrected: float | None = None
    num_rivals: int = 1


@dataclass(frozen=True)
class Findings:
    """Everything the reports say about one group; `chosen` is None without validation scores."""

    group: Group
    chosen: Row | None
    rows: tuple[Row, ...]
    baselines: tuple[Row, ...]
    gains: tuple[Gain, ...]
    correlation: float | None
    published_test: OutputSideTest | None
    seed_test: OutputSideTest | None
    pair_tests: tuple[PairTest, ...]
    layer_effects: tuple[LayerEffect, ...]
    caveats: tuple[str, ...]
    mistakes: MistakesFound | None = None
    """Put in by `unmask.results.kept_mistakes`, where predictions were kept."""

    @property
    def main_rows(self) -> list[Row]:
        """The rows of the paper's table 2: all causal, all open, what beats it, baselines."""
        ends = [row for row in self.rows if is_fully_causal(row.name) or is_fully_open(row.name)]
        open_means = [
            row.validation.mean for row in ends if is_fully_open(row.name) and row.validation
        ]
        above = [
            row
            for row in self.rows
            if row not in ends
            and row.validation
            and (row is self.chosen or (open_means and row.validation.mean > max(open_means)))
        ]
        above.sort(key=lambda row: -(row.validation.mean if row.validation else 0.0))
        return [*ends, *above, *self.baselines]

    @property
    def others(self) -> list[Row]:
        """What the chosen configuration is held against: all causal, all open, the baselines."""
        ends = [row for row in self.rows if is_fully_causal(row.name) or is_fully_open(row.name)]
        return [row for row in [*ends, *self.baselines] if row is not self.chosen]

    @property
    def num_layers(self) -> int | None:
        """Decoder layers of the backbone, where the runs recorded it."""
        return num_layers_of(self.group.results)

    def row(self, name: str) -> Row | None:
        """The configuration or baseline of that name."""
        every = [*self.rows, *self.baselines]
        return next((row for row in every if row.name == name), None)


def find(group: Group, counts_of: CountsOf | None = None) -> Findings:
    """All findings of one group; with counts per sentence also what they say of the gains."""
    validation = seed_scores(group.results, "validation")
    of_code: dict[str, list[RunResult]] = {code: [] for code in group.codes}
    for one in group.results:
        of_code[one.run.config].append(one)
    rows = tuple(_row(code, runs, is_baseline=False) for code, runs in of_code.items())
    baselines = tuple(_row(name, runs, is_baseline=True) for name, runs in group.baselines.items())
    chosen_code = choose_configuration(group.results) if validation else None
    chosen = next((row for row in rows if row.name == chosen_code), None)
    return Findings(
        group=group,
        chosen=chosen,
        rows=rows,
        baselines=baselines,
        gains=() if chosen is None else _gains(chosen, rows, baselines, counts_of),
        correlation=validation_test_correlation(group.results),
        published_test=published_test(validation),
        seed_test=seed_test(validation),
        pair_tests=tuple(pair_tests(validation)) if len(rows) <= MAX_PAIR_TESTED else (),
        layer_effects=layer_effects(validation, num_layers_of(group.results)),
        caveats=tuple([*_caveats(group, rows), *_tested_besides(chosen, rows)]),
    )


def num_layers_of(results: Sequence[RunResult]) -> int | None:
    """Decoder layers as recorded with the runs; None where they do not say or do not agree."""
    recorded = {one.environment.get("num_layers", "") for one in results}
    text = recorded.pop() if len(recorded) == 1 else ""
    return int(text) if text.isdecimal() else None


def describe_code(code: str, num_layers: int | None = None) -> str:
    """A configuration in words.

    >>> describe_code("0110", num_layers=32)
    'groups 2 and 3 of 4 from the input (layers 8-23 of 32)'
    >>> describe_code("0000")
    'no layer: all stay causal'
    """
    if code.startswith(LAYERS_PREFIX):
        return f"layers {code.removeprefix(LAYERS_PREFIX).replace(',', ', ')}, counted from 0"
    if is_fully_causal(code):
        return "no layer: all stay causal"
    if is_fully_open(code):
        return "every layer"
    opened = [str(number) for number, bit in enumerate(code, start=1) if bit == "1"]
    listed = " and ".join(part for part in (", ".join(opened[:-1]), opened[-1]) if part)
    plural = "groups" if len(opened) > 1 else "group"
    words = f"{plural} {listed} of {len(code)} from the input"
    if num_layers is None or num_layers < len(code):
        return words
    layers = f"layers {_layer_ranges(code, num_layers)} of {num_layers}"
    return layers if num_layers == len(code) else f"{words} ({layers})"


def _layer_ranges(code: str, num_layers: int) -> str:
    """Open layers counted from 0, such as "0-7, 16-23"."""
    ranges: list[list[int]] = []
    layer = 0
    for bit, size in zip(code, group_sizes(len(code), num_layers), strict=True):
        if bit == "1" and ranges and ranges[-1][1] == layer - 1:
            ranges[-1][1] = layer + size - 1
        elif bit == "1":
            ranges.append([layer, layer + size - 1])
        layer += size
    return ", ".join(f"{low}-{high}" if high > low else str(low) for low, high in ranges)


def _row(name: str, results: Sequence[RunResult], is_baseline: bool) -> Row:
    return Row(
        name=name,
        validation=_summary(results, "validation"),
        test=_summary(results, "test"),
        results=tuple(sorted(results, key=lambda one: one.run.seed)),
        is_baseline=is_baseline,
    )


def _summary(results: Sequence[RunResult], split: str) -> Summary | None:
    values = list(_by_seed(results, split).values())
    return summarize(values) if values else None


def _by_seed(results: Sequence[RunResult], split: str) -> dict[int, float]:
    scored = {one.run.seed: f1_of(one, split) for one in reversed(results)}
    return {seed: f1 for seed, f1 in sorted(scored.items()) if f1 is not None}


def _gains(
    chosen: Row, rows: Sequence[Row], baselines: Sequence[Row], counts_of: CountsOf | None
) -> tuple[Gain, ...]:
    """Against all causal, all open, and each baseline, leaving the chosen one itself out."""
    ends = [row for row in rows if is_fully_causal(row.name) or is_fully_open(row.name)]
    others = [row for row in [*ends, *baselines] if row.name != chosen.name]
    found = [gain for other in others if (gain := _gain(chosen, other, counts_of)) is not None]
    num_rivals = max(1, sum(row.validation is not None for row in rows) - 1)
    return tuple(_corrected(found, num_rivals))


def _corrected(gains: Sequence[Gain], num_rivals: int) -> list[Gain]:
    """For the choice among several, and for the several comparisons of what was chosen."""
    by_seeds = holm_where_known([_times(gain.comparison.p_value, num_rivals) for gain in gains])
    by_sentences = holm_where_known(
        [
            _times(
                gain.over_sentences and gain.over_sentences.p_value,
                num_rivals if gain.split == "validation" else 1,
            )
            for gain in gains
        ]
    )
    return [
        replace(
            gain,
            num_rivals=num_rivals,
            p_corrected=of_seeds,
            over_sentences=gain.over_sentences
            and replace(gain.over_sentences, p_holm=of_sentences),
        )
        for gain, of_seeds, of_sentences in zip(gains, by_seeds, by_sentences, strict=True)
    ]


def _times(p_value: float | None, number: int) -> float | None:
    return None if p_value is None else min(1.0, number * p_value)


def _gain(chosen: Row, other: Row, counts_of: CountsOf | None) -> Gain | None:
    """On test where both were scored there, else on validation; None without a shared seed."""
    for split in ("test", "validation"):
        found = compare(_by_seed(chosen.results, split), _by_seed(other.results, split))
        if found is not None:
            over_sentences = None
            if counts_of is not None:
                over_sentences = compare_over_sentences(
                    chosen.results, other.results, split, counts_of
                )
            return Gain(other.name, split, found, over_sentences)
    return None


def _caveats(group: Group, rows: Sequence[Row]) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = [*_scoring_caveats(group.every_result)]
    diverged = sum(one.status == "diverged" for one in group.every_result)
    if diverged:
        found.append(f"{diverged} of {len(group.every_result)} runs diverged; they have no score.")
    lengths = {len(row.name) for row in rows if is_bit_code(row.name)}
    for length in sorted(lengths):
        num_run = sum(is_bit_code(row.name) and len(row.name) == length for row in rows)
        if length <= MAX_EXHAUSTIVE_GROUPS and num_run < 2**length:
            found.append(
                f"{num_run} of the {2**length} configurations of {length} groups were run."
            )
    seeds = {row.name: len(row.results) for row in rows}
    if len(set(seeds.values())) > 1:
        low, high = min(seeds.values()), max(seeds.values())
        found.append(
            f"Configurations have between {low} and {high} seeds: the sweep is unfinished. "
            f"{_chosen_by(rows)}"
        )
    if rows and max(seeds.values()) == 1:
        found.append("There is one seed only, so nothing is known about the spread of any score.")
    return found


def _chosen_by(rows: Sequence[Row]) -> str:
    """Which seeds `choose_configuration` looks at when configurations differ in them."""
    steady = [row for row in rows if row.validation and not row.num_diverged]
    candidates = steady or [row for row in rows if row.validation]
    scored = [set(_by_seed(row.results, "validation")) for row in candidates]
    common = sorted(set.intersection(*scored)) if scored else []
    if not common:
        return "No seed is common to all, so the choice compares means over different seeds."
    which = ", ".join(map(str, common))
    return f"The choice is made over the seeds that all have: {which}."


def _tested_besides(chosen: Row | None, rows: Sequence[Row]) -> list[str]:
    """Configurations whose test scores are known though they were not chosen."""
    besides = [
        row.name
        for row in rows
        if row.test and row is not chosen and not is_fully_causal(row.name)
        if not is_fully_open(row.name)
    ]
    if chosen is None or not besides:
        return []
    named = ", ".join(besides[:4]) + (" and others" if len(besides) > 4 else "")
    were = "1 configuration was" if len(besides) == 1 else f"{len(besides)} configurations were"
    return [
        f"{were} scored on test besides the chosen one and both ends ({named}). "
        "The choice looks at validation alone; a second look at test would not."
    ]


def _scoring_caveats(results: Sequence[RunResult]) -> list[str]:
    scores = [one for result in results for one in result.scores.values()]
    other = {
        f"{one.get('mode', 'unnamed')} {one.get('scheme', 'scheme')}"
        for one in scores
        if (one.get("mode"), one.get("scheme")) != ("strict", "IOB2")
    }
    found = [f"Some scores are not strict IOB2 but: {', '.join(sorted(other))}."] if other else []
    if any(one.get("gold") == "truncated" for one in scores):
        found.append(
            "Some scores leave words lost to truncation out of the gold, as the reference does; "
            "this inflates recall."
        )
    return found
