"""How much data does it take? One configuration trained on more and more sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from unmask.backbones import load_backbone
from unmask.data.sentence import Corpus
from unmask.model import configuration
from unmask.results.figures import save_png
from unmask.results.plots import size_figure
from unmask.results.run import ENCODER, Run
from unmask.results.statistics import Summary, summarize
from unmask.results.tables import counted
from unmask.sweep.execute import open_ledger
from unmask.sweep.job import Job
from unmask.sweep.outputs import remember_corpus
from unmask.sweep.plan import SweepSettings
from unmask.sweep.train import train_missing

FIGURE_FILE = "few_shot.png"


@dataclass(frozen=True)
class FewShotCurve:
    """Validation F1 over seeds for each number of training sentences; None where all diverged."""

    points: tuple[tuple[int, Summary | None], ...]
    figure: Path

    def to_text(self) -> str:
        """A table, one line a size."""
        lines = ["sentences   validation F1 (mean, standard deviation, seeds)"]
        for size, summary in self.points:
            shown = "diverged" if summary is None else summary_in_words(summary)
            lines.append(f"{size:>9}   {shown}")
        return "\n".join(lines)


def summary_in_words(summary: Summary) -> str:
    """Mean and spread, as far as there is one."""
    spread = "-" if summary.sd is None else f"{summary.sd:.4f}"
    return f"{summary.mean:.4f}  {spread}  {summary.num_seeds}"


def few_shot(
    settings: SweepSettings,
    unmask: str | None,
    corpus: Corpus,
    sizes: Sequence[int],
    console: Console,
) -> FewShotCurve:
    """Train on the first sentences of `corpus`, as many as each of `sizes` says, with every seed.

    What the ledger of `settings.out` has is not trained again. The test split is not looked at.

    Raises:
        ValueError: for no size, one that the corpus does not have, or two that are equal.
    """
    _check_sizes(sizes, len(corpus.train))
    recipe = settings.recipe
    loaded = load_backbone(
        settings.model, recipe.compute_dtype, recipe.quantization, settings.device
    )
    configuration(loaded, unmask)  # refused before anything slow
    code = ENCODER if loaded.is_encoder or unmask is None else unmask
    ledger = open_ledger(settings)
    points = []
    for size in sorted(sizes):
        part = corpus.limit("train", size)
        fingerprint = part.fingerprint()
        runs = [
            Run(loaded.weights.name, settings.task, code, seed, recipe, fingerprint)
            for seed in settings.seeds
        ]
        named = f" ({counted(size, 'sentence')})"
        of_size = replace(settings, limit_train=size)
        remember_corpus(part, of_size)  # for the titles of a report
        job = Job(of_size, part, loaded, runs, ledger, console, named)
        train_missing(job)
        f1s = [one.scores["validation"]["f1"] for one in job.results() if one.status == "finished"]
        points.append((size, summarize(f1s) if f1s else None))
    path = settings.out / FIGURE_FILE
    save_png(size_figure([(size, one) for size, one in points if one is not None]), path)
    return FewShotCurve(tuple(points), path)


def _check_sizes(sizes: Sequence[int], available: int) -> None:
    if not sizes or len(set(sizes)) != len(sizes):
        raise ValueError(f"--sizes must be one or more different numbers, got {list(sizes)}")
    odd = [size for size in sizes if not 1 <= size <= available]
    if odd:
        raise ValueError(f"--sizes: {odd[0]} is not between 1 and the {available} in training")
