"""What a sweep keeps beside its ledger, so that reports and tests over sentences need no model.

Per run and split: counts per sentence, and the predicted spans. Per corpus and split: the
sentences with their gold spans. The one thing that is easy to get wrong is mixing corpora:
spans are only ever read against the sentences of their own data fingerprint.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unmask.analysis.breakdown import GoldSentence
from unmask.analysis.scoring import sentence_counts
from unmask.data.sentence import Span
from unmask.data.tags import spans_from_tags
from unmask.results.counts import Counts, counts_path, read_counts, write_counts
from unmask.results.files import write_in_one_move
from unmask.results.run import Run

Spans = list[list[Span]]
"""Predicted spans of every sentence of a split, in the order of the corpus."""


def keep_predictions(
    run_folder: Path,
    split: str,
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
) -> None:
    """Write counts and predicted spans of one run, given IOB2 tags of both sides."""
    write_counts(counts_path(run_folder, split), sentence_counts(gold, predicted))
    spans = [[[s.start, s.end, s.label] for s in spans_from_tags(tags)] for tags in predicted]
    _write(_spans_path(run_folder, split), spans)


def keep_sentences(
    folder: Path, fingerprint: str, split: str, sentences: Iterable[GoldSentence]
) -> None:
    """Write the sentences of one split, once per corpus."""
    rows = [
        [one.id, one.words, [[s.start, s.end, s.label] for s in one.spans], one.seen]
        for one in sentences
    ]
    _write(_sentences_path(folder, fingerprint, split), rows)


def has_sentences(folder: Path, fingerprint: str, split: str) -> bool:
    """Whether the sentences of a split were kept before."""
    return _sentences_path(folder, fingerprint, split).exists()


class Kept:
    """Reads what was kept under the folder of a sweep; all of it may be missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def counts(self, run: Run, split: str) -> Counts | None:
        """Counts per sentence; None where none were kept."""
        return read_counts(counts_path(self.folder / "runs" / run.id, split))

    def spans(self, run: Run, split: str) -> Spans | None:
        """Predicted spans per sentence; None where none were kept."""
        rows = _read(_spans_path(self.folder / "runs" / run.id, split))
        return rows and [[Span(*span) for span in spans] for spans in rows]

    def sentences(self, fingerprint: str, split: str) -> list[GoldSentence] | None:
        """Sentences of a corpus; None where none were kept."""
        rows = _read(_sentences_path(self.folder, fingerprint, split))
        return rows and [
            GoldSentence(name, tuple(words), tuple(Span(*one) for one in spans), tuple(seen))
            for name, words, spans, seen in rows
        ]


def _spans_path(run_folder: Path, split: str) -> Path:
    return run_folder / f"spans.{split}.json.gz"


def _sentences_path(folder: Path, fingerprint: str, split: str) -> Path:
    return folder / "sentences" / f"{fingerprint}.{split}.json.gz"


def _write(path: Path, rows: list[Any]) -> None:
    """The same bytes for the same rows."""
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=False)
    write_in_one_move(path, gzip.compress(text.encode(), mtime=0))


def _read(path: Path) -> list[Any] | None:
    if not path.exists():
        return None
    try:
        rows = json.loads(gzip.decompress(path.read_bytes()))
        if not isinstance(rows, list):
            raise ValueError(f"expected a list, found {type(rows).__name__}")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to go without it") from None
    return rows
