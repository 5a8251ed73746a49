"""Train one recorded run again and compare the score: `unmask reproduce run.json`.

The same path as in a sweep, alone, in a folder of its own. The one thing that is easy to get
wrong is to compare two different things, so other data or other weights are refused before any
training.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.backbones import load_backbone
from unmask.data.sentence import Corpus
from unmask.data.tasks import load_task
from unmask.results.ledger import Ledger
from unmask.results.record import RunRecord
from unmask.results.run import RunResult
from unmask.sweep.job import Job
from unmask.sweep.plan import SweepSettings
from unmask.sweep.train import train_missing

NOT_THE_SAME_RUN = ("git_commit", "mask_proof")
"""Entries of the environment that say nothing about numbers."""


@dataclass(frozen=True)
class Reproduction:
    """A run as recorded and as trained again, both with their validation scores."""

    recorded: RunResult
    again: RunResult

    @property
    def f1(self) -> tuple[float, float]:
        """(recorded, again)."""
        first, second = (r.scores["validation"]["f1"] for r in (self.recorded, self.again))
        return first, second

    @property
    def is_same(self) -> bool:
        """Equal to the last digit, also per label?"""
        return self.recorded.scores["validation"] == self.again.scores["validation"]

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """What differs between the two environments: (recorded, again)."""
        first, second = self.recorded.environment, self.again.environment
        names = sorted((set(first) | set(second)) - set(NOT_THE_SAME_RUN))
        pairs = {name: (first.get(name, "-"), second.get(name, "-")) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def to_text(self) -> str:
        """The comparison for people."""
        lines = [f"{'recorded F1':<14}{self.f1[0]:.6f}", f"{'trained again':<14}{self.f1[1]:.6f}"]
        lines.append("the same to the last digit" if self.is_same else "NOT THE SAME")
        lines += [f"{name}: was {was}, is {now}" for name, (was, now) in self.changes.items()]
        return "\n".join(lines)


def reproduce(
    record: RunRecord,
    console: Console,
    data_dir: Path | None = None,
    device: str | None = None,
) -> Reproduction:
    """Train the run of `record` again.

    Args:
        record: what `RunRecord.read` gave.
        console: for notes and progress.
        data_dir: where the data is now, if not where it was.
        device: default: cuda, mps or cpu, the first that is there.

    Raises:
        ValueError: when data or weights are not those of the record.
    """
    run = record.result.run
    corpus = _corpus(record, data_dir)
    recipe = run.recipe
    loaded = load_backbone(record.load_from, recipe.compute_dtype, recipe.quantization, device)
    digest = record.result.environment.get("weights_digest")
    if digest not in (None, loaded.digest()):
        raise ValueError(
            f"the weights found for {record.load_from} ({loaded.weights.name}) are not those that "
            f"this run was trained on ({run.backbone})"
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        settings = SweepSettings(
            model=record.load_from, task=run.task, recipe=recipe, out=out, fuse=1, test="none"
        )
        job = Job(settings, corpus, loaded, [run], Ledger(out / "ledger.jsonl"), console)
        train_missing(job)
        (again,) = job.results()
    return Reproduction(record.result, again)


def _corpus(record: RunRecord, data_dir: Path | None) -> Corpus:
    settings: dict[str, Any] = dict(record.data)
    if data_dir is not None:
        settings["data_dir"] = data_dir
    corpus = load_task(**settings)
    found, expected = corpus.fingerprint(), record.result.run.data_fingerprint
    if found != expected:
        raise ValueError(
            f"the data of {corpus.name} has fingerprint {found}, but this run was trained on "
            f"{expected}: words, tags or splits differ; give the right files with --data-dir"
        )
    return corpus
