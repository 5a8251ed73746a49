"""One backbone's part of a sweep: what training and scoring both work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.analysis.scoring import score
from unmask.backbones import LoadedBackbone
from unmask.data.sentence import Corpus
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.results.kept import keep_predictions
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult
from unmask.sweep.plan import SweepSettings
from unmask.training.environment import describe_environment
from unmask.training.evaluate import predict_tags
from unmask.training.validation import Watch


@dataclass
class Job:
    """One backbone, the runs on it, and where their results go."""

    settings: SweepSettings
    corpus: Corpus
    loaded: LoadedBackbone
    runs: list[Run]
    ledger: Ledger
    console: Console
    environment: dict[str, str] = field(init=False)
    """Of all results: taken once, so that a commit made meanwhile does not change it."""

    def __post_init__(self) -> None:
        self.environment = describe_environment(self.loaded)

    def folder(self, run: Run) -> Path:
        """Where a run keeps its checkpoint and, once finished, its adapter."""
        return self.settings.out / "runs" / run.id

    def results(self) -> list[RunResult]:
        """What the ledger has of this job's runs."""
        ids = {run.id for run in self.runs}
        return [result for result in self.ledger.results() if result.run.id in ids]

    def fit_settings(self) -> dict[str, Any]:
        """How runs are trained here: checkpoints, and validation where somebody needs to know."""
        watches = self.settings.recipe.patience is not None or self.settings.epoch_scores
        return {
            "checkpoint_seconds": self.settings.checkpoint_seconds,
            "watch": Watch(self.corpus.validation, self.console.print) if watches else None,
        }

    @contextmanager
    def model(self, runs: Sequence[Run]) -> Iterator[UnmaskedForTokenClassification]:
        """A fresh stack of `runs`; on leaving the backbone is as it was loaded."""
        recipe = self.settings.recipe
        model = UnmaskedForTokenClassification(
            self.loaded,
            self.corpus.labels,
            [configuration(self.loaded, run.config) for run in runs],
            LoraSettings.from_recipe(recipe),
            [run.seed for run in runs],
            recipe.head_dropout,
            recipe.max_subtokens,
        )
        try:
            yield model
        finally:
            model.release()

    def score(
        self, model: UnmaskedForTokenClassification, split: str, keep_for: Sequence[Run] = ()
    ) -> list[dict]:
        """Scores of every run of `model` on one split, against the full gold.

        With one run each in `keep_for`, what was predicted is kept in its folder, for reports and
        `unmask compare`.
        """
        sentences = self.corpus.split(split)
        gold = [sentence.tags for sentence in sentences]
        limit = self.settings.recipe.max_subtokens
        predicted = predict_tags(model, [sentences] * model.num_runs, limit)
        for run, (tags, _) in zip(keep_for, predicted, strict=False):
            keep_predictions(self.folder(run), split, gold, tags)
        return [score(gold, tags, num_truncated_words=cut) for tags, cut in predicted]
