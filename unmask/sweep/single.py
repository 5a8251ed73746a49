"""One labeler from one command: `unmask train`. A run of a sweep, without the sweep."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from unmask.analysis.scoring import score_table
from unmask.backbones import load_backbone
from unmask.data.sentence import Corpus
from unmask.model import configuration
from unmask.results.run import ENCODER, Run
from unmask.sweep.execute import open_ledger
from unmask.sweep.held_out import score_runs
from unmask.sweep.job import Job
from unmask.sweep.outputs import remember_corpus
from unmask.sweep.plan import SweepSettings
from unmask.sweep.train import train_missing


def train_one(
    settings: SweepSettings, unmask: str | None, corpus: Corpus, console: Console
) -> Path:
    """Train one labeler, or go on where an earlier call was cut short.

    Args:
        settings: as for a sweep; its only seed counts, `configs` and `baselines` do not.
        unmask: which layers look right; None for an encoder.
        corpus: what to train on; its test split is scored unless `settings.test` is "none".
        console: for notes and progress.

    Returns:
        The folder of the labeler.

    Raises:
        ValueError: for a decoder without `unmask`, an encoder with one, and when training
            diverged.
    """
    recipe = settings.recipe
    loaded = load_backbone(
        settings.model, recipe.compute_dtype, recipe.quantization, settings.device
    )
    configuration(loaded, unmask)  # refused before anything slow
    for note in loaded.notes:
        console.print(f"note: {note}")
    console.print(
        f"backbone: {loaded.weights.name} from {loaded.weights.path} on {loaded.model.device}"
    )
    code = ENCODER if loaded.is_encoder or unmask is None else unmask
    (seed,) = settings.seeds
    run = Run(loaded.weights.name, settings.task, code, seed, recipe, corpus.fingerprint())
    ledger = open_ledger(settings)
    remember_corpus(corpus, settings)
    job = Job(settings, corpus, loaded, [run], ledger, console)
    train_missing(job)
    (result,) = job.results()
    if result.status != "finished":
        raise ValueError(
            f"{run.name} diverged: its loss was no finite number; lower --learning-rate "
            f"({recipe.learning_rate})"
        )
    if settings.test != "none" and "test" not in result.scores:
        score_runs(job, [run])
    (result,) = job.results()
    for split, scores in result.scores.items():
        console.print(f"{split}:\n{score_table(scores)}")
    return job.folder(run)
