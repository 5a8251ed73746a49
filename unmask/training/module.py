"""The Lightning module: R runs, one forward pass, one optimizer each. A single run is R = 1.

Optimisation is manual because every run clips, steps and schedules by itself, and because the
route must be held around forward and backward. The loss that goes backward is the sum over runs
of each run's own mean; a mean over all tokens would let long batches of one run weigh on another.
Losses and norms are read when a window ends, so that a GPU is waited for once in a window.
Several processes may train one stack, see `ranks`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from unmask.data.alignment import EncodedSentence
from unmask.labeler_stack import LabelerStack
from unmask.packing import PackedBatch, pack
from unmask.ranks import Ranks
from unmask.recipe import Recipe
from unmask.route import Draw
from unmask.training.batches import Schedule
from unmask.training.checkpoint import Progress
from unmask.training.optimizer import RunOptimizer
from unmask.training.passes import Passes, can_be_recorded
from unmask.training.update import StackUpdate


@dataclass
class Trainee:
    """One run in the stack: its data, its counters, its optimizer."""

    name: str
    seed: int
    recipe: Recipe
    sentences: Sequence[EncodedSentence]
    progress: Progress
    stop_step: int | None = None
    """Pause after this optimizer step; the schedule is that of the whole run all the same."""
    in_window: int = 0
    """Micro-batches done of the window that is open."""

    def __post_init__(self) -> None:
        self.schedule = Schedule.of(self.recipe, len(self.sentences))
        steps = self.schedule.num_steps
        self.end = self.schedule.microbatches_in(min(steps, self.stop_step or steps))

    @property
    def active(self) -> bool:
        """Is there something left to train?"""
        return self.progress.microbatches < self.end and not self.has_left

    @property
    def has_left(self) -> bool:
        """Did it diverge, or end early?"""
        return self.progress.diverged or self.progress.stopped

    @property
    def is_through(self) -> bool:
        """Has it taken its last step, or left before?"""
        return self.has_left or self.progress.steps >= self.schedule.num_steps

    def batch(self, microbatch: int) -> list[EncodedSentence]:
        """The sentences of a micro-batch; none when the run is through or has left."""
        if microbatch >= self.end or self.has_left:
            return []
        return [self.sentences[index] for index in self.schedule.indices(microbatch, self.seed)]


class FusedRuns(LightningModule):
    """Trains the runs of one stack, each as if it were alone."""

    def __init__(self, model: LabelerStack, trainees: Sequence[Trainee]) -> None:
        super().__init__()
        if model.num_runs != len(trainees):
            raise ValueError(f"the model holds {model.num_runs} runs, {len(trainees)} were given")
        self.automatic_optimization = False
        self.model = model
        self.trainees = list(trainees)
        self.ranks = Ranks.here()
        self.run_optimizers = [
            self._optimizer(run, trainee) for run, trainee in enumerate(self.trainees)
        ]
        with_graphs = self.ranks.size == 1 and can_be_recorded(model)
        self.passes = Passes(model, with_graphs)
        self.stack_update = StackUpdate(model.stacked_parameters(), self.run_optimizers)
        # Of a loop of the caller's, or of training that broke off.
        self.stack_update.gradients.clear(range(model.num_runs))
        self._recent: list[Tensor] = []

    def begin(self, run: int, trainee: Trainee) -> None:
        """Go on with another trainee in the place of one that ended; the model has begun it."""
        self.trainees[run] = trainee
        self.run_optimizers[run] = self._optimizer(run, trainee)

    def _optimizer(self, run: int, trainee: Trainee) -> RunOptimizer:
        return RunOptimizer(
            self.model.stacked_parameters(),
            run,
            trainee.recipe,
            trainee.schedule.num_steps,
            {name: own.shape for name, own in self.model.run_parameters(run).items()},
        )

    def cpu(self) -> FusedRuns:
        """Nothing. Lightning moves a module to the CPU when its loop ends.

        The optimizers' views would be parted from the stack, and what follows would run there.
        """
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: windows that are under way when the loop ends go on in the next."""

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """None: the runs' optimizers are stepped by hand, outside Lightning's accounting."""
        return []

    def train_dataloader(self) -> DataLoader[PackedBatch]:
        """Packs of all active runs, made from their counters as training goes on."""
        return DataLoader(_DueBatches(self), batch_size=None)

    def transfer_batch_to_device(
        self, batch: PackedBatch, device: torch.device, dataloader_idx: int
    ) -> PackedBatch:
        """Nothing: Lightning does not know its type, and `passes` moves it."""
        return batch

    def training_step(self, batch: PackedBatch, batch_idx: int) -> None:
        """One micro-batch of every active run, and a step for those whose window ends."""
        started = time.monotonic()
        active = [trainee.active for trainee in self.trainees]
        steps = tuple(trainee.progress.microbatches for trainee in self.trainees)
        part = self.ranks.part([t.batch(at) for t, at in zip(self.trainees, steps, strict=True)])
        draw = Draw(tuple(trainee.seed for trainee in self.trainees), steps, part.first_tokens)
        lasting = [r for r, t in enumerate(self.trainees) if t.recipe.keep_last_microbatch_only]
        if lasting:
            self.stack_update.gradients.clear(lasting)
        shares = torch.tensor(part.shares, dtype=self._loss_dtype)
        keys = self.model.route.keys(draw)
        losses = self.passes(batch, keys, shares * self._weights())
        if self.ranks.size > 1:
            losses = self.ranks.sum(losses * shares.to(self.model.device, non_blocking=True))
        self._recent.append(losses)
        for run, (trainee, is_active) in enumerate(zip(self.trainees, active, strict=True)):
            if is_active:
                trainee.progress.tokens += part.num_tokens[run]
                trainee.progress.microbatches += 1
                trainee.in_window += 1
        ending = [
            run
            for run, (trainee, at) in enumerate(zip(self.trainees, steps, strict=True))
            if active[run] and trainee.schedule.ends_window(at)
        ]
        if ending:
            self._end_windows(ending)
        elapsed = time.monotonic() - started
        for trainee, is_active in zip(self.trainees, active, strict=True):
            # Shared evenly: what one run costs in this stack.
            trainee.progress.seconds += elapsed / sum(active) if is_active else 0.0

    @property
    def _loss_dtype(self) -> torch.dtype:
        """Of losses."""
        return self.model.score_weight.dtype

    def _weights(self) -> Tensor:
        """[runs], on the CPU: one over the micro-batches that share this step."""
        windows = [
            trainee.recipe.accumulation
            if trainee.recipe.keep_last_microbatch_only
            else trainee.schedule.window_size(trainee.progress.microbatches)
            for trainee in self.trainees
        ]
        return 1 / torch.tensor(windows, dtype=self._loss_dtype)

    def _end_windows(self, ending: Sequence[int]) -> None:
        """Step the runs whose window ends here."""
        self.ranks.sum_gradients(self.stack_update.gradients.of(ending))
        read = torch.cat([torch.stack(self._recent), self.stack_update.norms()[None]])
        *losses, norms = read.tolist()
        self.stack_update.step({run: self.trainees[run].progress.steps for run in ending}, norms)
        for run in ending:
            trainee = self.trainees[run]
            mean = sum(row[run] for row in losses[-trainee.in_window :]) / trainee.in_window
            trainee.progress.steps += 1
            trainee.progress.train_loss.append(mean)
            trainee.progress.diverged = not math.isfinite(norms[run] + mean)
            trainee.in_window = 0
        # Windows that are still open begin here or later.
        longest = max(trainee.in_window for trainee in self.trainees)
        self._recent = self._recent[len(self._recent) - longest :]


class _DueBatches(IterableDataset[PackedBatch]):
    """Counts for itself, because Lightning fetches a batch ahead of the step that is under way."""

    def __init__(self, module: FusedRuns) -> None:
        self.module = module

    def __iter__(self) -> Iterator[PackedBatch]:
        trainees = self.module.trainees
        due = [trainee.progress.microbatches for trainee in trainees]
        while True:
            batches = [t.batch(at) for t, at in zip(trainees, due, strict=True)]
            if not any(batches):
                return
            part = self.module.ranks.part(batches)
            yield self.module.passes.fitted(pack(part.sentences, self.module.model.causal))
            due = [at + 1 for at in due]
