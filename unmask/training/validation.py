"""Validation after every epoch: a table by label, early stopping, and the best weights.

Runs of one stack are watched each by itself, so one that stops leaves the others as they were.
The one thing that is easy to get wrong: what is kept must survive a kill. The best weights lie in
a file beside the checkpoint, and since everything in training is counted, a run that goes on from
an older checkpoint comes to the same best weights again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file, save_file

from unmask.analysis.scoring import score, score_table
from unmask.data.sentence import Sentence
from unmask.labeler_stack import LabelerStack
from unmask.ranks import Ranks
from unmask.tagging import predict_tags
from unmask.training.checkpoint import BEST_FILE, PARTIAL
from unmask.training.module import FusedRuns, Trainee


@dataclass(frozen=True)
class Watch:
    """What is looked at after an epoch, and who is told.

    `tell` gets one text per run and epoch: the scores by label.
    """

    sentences: Sequence[Sentence]
    tell: Callable[[str], None]


class Validation(Callback):
    """Scores every run at the end of each of its epochs, and ends those whose patience is over."""

    def __init__(self, watch: Watch, folders: Sequence[Path] | None = None) -> None:
        self.watch = watch
        self.folders = folders
        self.best: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Looks at the runs whose epoch has just ended."""
        assert isinstance(pl_module, FusedRuns)
        for run, trainee in enumerate(pl_module.trainees):
            if _epoch_is_due(trainee):
                self._look_at(pl_module.model, run, trainee)

    def restore_best(self, module: FusedRuns, ended: Sequence[int]) -> None:
        """Put the best weights of runs that have ended, and have patience, into the model."""
        for run in ended:
            trainee = module.trainees[run]
            # Without a score it pauses before its first epoch ends: there is no best yet.
            scored = trainee.progress.validation_f1 and not trainee.progress.diverged
            if trainee.recipe.patience is None or not scored:
                continue
            # Taken out: another run may take this place.
            kept = self.best.pop(run, None) or self._read_best(run)
            with torch.no_grad():
                for name, tensor in module.model.run_parameters(run).items():
                    tensor.copy_(kept[name])

    def _look_at(self, model: LabelerStack, run: int, trainee: Trainee) -> None:
        sentences: list[Sequence[Sentence]] = [()] * model.num_runs
        sentences[run] = self.watch.sentences
        tags, num_cut = predict_tags(
            model, sentences, trainee.recipe.max_subtokens, ranks=Ranks.here()
        )[run]
        gold = [sentence.tags for sentence in self.watch.sentences]
        scores = score(gold, tags, num_truncated_words=num_cut)
        curve, patience = trainee.progress.validation_f1, trainee.recipe.patience
        is_best = scores["f1"] > max(curve, default=-1.0)
        curve.append(scores["f1"])
        trainee.progress.validation_step.append(trainee.progress.steps)
        if patience is not None:
            if is_best:
                self._keep(model, run)
            since_best = len(curve) - 1 - curve.index(max(curve))
            trainee.progress.stopped = since_best >= patience
        end = ", no better for long enough: stopped" if trainee.progress.stopped else ""
        best = " (best so far)" if is_best else ""
        self.watch.tell(
            f"{trainee.name}, epoch {len(curve)}: validation F1 {scores['f1']:.4f}{best}{end}\n"
            f"{score_table(scores)}"
        )

    def _keep(self, model: LabelerStack, run: int) -> None:
        self.best[run] = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in model.run_parameters(run).items()
        }
        if self.folders is not None and Ranks.here().is_first:
            self.folders[run].mkdir(parents=True, exist_ok=True)
            path = self.folders[run] / BEST_FILE
            beside = path.with_suffix(PARTIAL)
            save_file(self.best[run], beside)
            beside.replace(path)

    def _read_best(self, run: int) -> dict[str, torch.Tensor]:
        assert self.folders is not None
        path = self.folders[run] / BEST_FILE
        if not path.exists():
            raise ValueError(
                f"{path} is gone, so the best weights of this run are lost; delete "
                f"{self.folders[run]} to start it anew"
            )
        return load_file(path)


def _epoch_is_due(trainee: Trainee) -> bool:
    """Has an epoch ended, or the run itself, that was not looked at yet?"""
    progress, schedule = trainee.progress, trainee.schedule
    if trainee.has_left or trainee.in_window:
        return False
    epochs, rest = divmod(progress.microbatches, schedule.microbatches_per_epoch)
    is_last = progress.microbatches == schedule.num_microbatches
    return len(progress.validation_f1) < epochs + bool(rest and is_last)
