"""Where the chosen configuration goes wrong, beside all causal, all open and the encoders.

Read from what the sweep kept beside its ledger. The one thing that is easy to get wrong: all
sides are read on one split, the test split where it was scored, else validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from unmask.analysis.breakdown import Breakdown, GoldSentence, break_down
from unmask.results.findings import Findings, Row
from unmask.results.kept import Kept, Spans
from unmask.results.statistics import f1_of


@dataclass(frozen=True)
class MistakesFound:
    """Mistakes on one split, by configuration, the chosen one first.

    `predicted` has the spans of the chosen configuration by seed.
    """

    split: str
    chosen: str
    sentences: list[GoldSentence]
    breakdowns: Mapping[str, Breakdown]
    predicted: Mapping[int, Spans]


def with_mistakes(findings: Findings, kept: Kept | None) -> Findings:
    """The findings with the mistakes that were kept, if any."""
    return replace(findings, mistakes=find_kept_mistakes(findings, kept))


def find_kept_mistakes(findings: Findings, kept: Kept | None) -> MistakesFound | None:
    """None where no predictions of the chosen configuration were kept."""
    if kept is None or findings.chosen is None:
        return None
    for split in ("test", "validation"):
        predicted = _spans_by_seed(findings.chosen, kept, split)
        sentences = kept.sentences(findings.group.data_fingerprint, split) if predicted else None
        if predicted and sentences:
            found = {findings.chosen.name: break_down(sentences, list(predicted.values()))}
            for row in findings.others:
                if spans := _spans_by_seed(row, kept, split):
                    found[row.name] = break_down(sentences, list(spans.values()))
            return MistakesFound(split, findings.chosen.name, sentences, found, predicted)
    return None


def _spans_by_seed(row: Row, kept: Kept, split: str) -> dict[int, Spans]:
    """Of runs that count on the split, so that a diverged run does not come in by its spans."""
    found = {
        one.run.seed: kept.spans(one.run, split)
        for one in row.results
        if f1_of(one, split) is not None
    }
    return {seed: spans for seed, spans in found.items() if spans is not None}
