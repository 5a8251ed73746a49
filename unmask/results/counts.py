"""Spans per sentence beside each run: what tests over sentences need and scores do not hold.

One small file per run and split. The one thing that is easy to get wrong is mixing corpora:
counts are only ever paired between runs of one data fingerprint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from unmask.results.files import write_in_one_move

Counts = list[tuple[int, int, int]]
"""Per sentence: spans that match, spans predicted, spans in gold."""


def counts_path(folder: Path, split: str) -> Path:
    """Where the counts of a run are, given the run's folder."""
    return folder / f"counts.{split}.json"


def write_counts(path: Path, counts: Sequence[tuple[int, int, int]]) -> None:
    """Write the counts of one run on one split, in one move."""
    text = json.dumps([list(row) for row in counts], separators=(",", ":"))
    write_in_one_move(path, f"{text}\n")


def read_counts(path: Path) -> Counts | None:
    """The counts in a file; None when there is none, as beside runs of earlier versions.

    Raises:
        ValueError: when the file is damaged.
    """
    if not path.exists():
        return None
    try:
        counts = [(int(row[0]), int(row[1]), int(row[2])) for row in json.loads(path.read_bytes())]
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to compare without it") from None
    return counts


def pooled(many: Sequence[Counts]) -> Counts:
    """Counts of several runs on the same sentences, summed sentence by sentence.

    >>> pooled([[(1, 2, 3)], [(0, 1, 3)]])
    [(1, 3, 6)]

    Raises:
        ValueError: when the runs have different numbers of sentences.
    """
    if len({len(counts) for counts in many}) > 1:
        raise ValueError(
            "counts of different numbers of sentences cannot be put together: "
            f"{sorted({len(counts) for counts in many})}"
        )
    return [
        (sum(c for c, _, _ in rows), sum(p for _, p, _ in rows), sum(g for _, _, g in rows))
        for rows in zip(*many, strict=True)
    ]
