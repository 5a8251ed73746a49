"""One backbone's part of a sweep: what training and scoring both work on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.analysis.scoring import score
from unmask.backbones import LoadedBackbone
from unmask.card import CardFacts
from unmask.data.sentence import Corpus
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.ranks import Ranks
from unmask.results.kept import keep_predictions
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult
from unmask.sweep.plan import SweepSettings
from unmask.tagging import predict_tags
from unmask.training.environment import describe_environment
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
    told_apart: str = ""
    """What tells its recipe from those of other jobs on the same data, in brackets; for people."""
    environment: dict[str, str] = field(init=False)
    """Of all results: taken once, so that a commit made meanwhile does not change it."""

    def __post_init__(self) -> None:
        self.environment = describe_environment(self.loaded)

    @cached_property
    def facts(self) -> CardFacts:
        """What model cards say of the corpus."""
        return CardFacts.of(self.corpus)

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
            "watch": Watch(self.corpus.validation, self._tell) if watches else None,
        }

    def _tell(self, scores: str) -> None:
        """Say what was scored on the way: with its table by label where there is only one run."""
        self.console.print(scores if len(self.runs) == 1 else scores.partition("\n")[0])

    @contextmanager
    def model(self, runs: Sequence[Run]) -> Iterator[UnmaskedForTokenClassification]:
        """A fresh stack of `runs`; on leaving the backbone is as it was loaded."""
        with stacked([(self, run) for run in runs]) as model:
            yield model

    def score(
        self,
        model: UnmaskedForTokenClassification,
        split: str,
        keep_for: Sequence[Run] = (),
        places: Sequence[int] | None = None,
    ) -> list[dict]:
        """Scores of runs of `model` on one split, against the full gold.

        Args:
            model: a stack.
            split: of the job's corpus.
            keep_for: with one run for each that is scored, what was predicted is kept in its
                folder, for reports and `unmask compare`.
            places: of the runs to score in the stack; default: all.
        """
        chosen = range(model.num_runs) if places is None else places
        sentences = self.corpus.split(split)
        gold = [sentence.tags for sentence in sentences]
        per_run = [sentences if place in chosen else () for place in range(model.num_runs)]
        limit = self.settings.recipe.max_subtokens
        tagged = predict_tags(model, per_run, limit, ranks=Ranks.here())
        predicted = [tagged[place] for place in chosen]
        if Ranks.here().is_first:
            for run, (tags, _) in zip(keep_for, predicted, strict=False):
                keep_predictions(self.folder(run), split, gold, tags)
        return [score(gold, tags, num_truncated_words=cut) for tags, cut in predicted]


@contextmanager
def stacked(members: Sequence[tuple[Job, Run]]) -> Iterator[UnmaskedForTokenClassification]:
    """A fresh stack of runs of jobs on one backbone, which on leaving is as it was loaded.

    The jobs' recipes must agree as far as a stack shares them, see `plan.shared_in_a_stack`.
    """
    loaded, recipe = members[0][0].loaded, members[0][0].settings.recipe
    model = UnmaskedForTokenClassification(
        loaded,
        [job.corpus.labels for job, _ in members],
        [configuration(loaded, run.config) for _, run in members],
        [LoraSettings.from_recipe(run.recipe) for _, run in members],
        [run.seed for _, run in members],
        recipe.head_dropout,
        recipe.max_subtokens,
    )
    try:
        yield model
    finally:
        model.release()
