"""Successive halving: weak configurations leave early, and their room goes to the others.

All runs are trained to a quarter of their steps and scored on validation; the better half of the
configurations (by the mean over seeds) goes on to half of the steps, and the better half of
those to the end. The learning rate follows the schedule of the whole run throughout, so what
finishes is exactly what it would have been without halving. All causal and all open always
finish: every gain is told against them. What left keeps its checkpoint, and the same sweep
without --halving takes it up again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

from unmask.model import UnmaskedForTokenClassification
from unmask.ranks import Ranks
from unmask.results.groups import is_fully_causal, is_fully_open
from unmask.results.run import Run
from unmask.sweep.job import Job
from unmask.sweep.stack import Member, Share, train_shares
from unmask.sweep.stack_loop import StackLoop
from unmask.training.batches import Schedule

RUNGS = (0.25, 0.5)
"""Shares of a run's steps at which the weaker half leaves."""


def survivors(share: Share, stacks: StackLoop) -> list[Run]:
    """Train to each rung, and return the runs of the configurations that are left."""
    job = share.job
    scores = RungScores(job.settings.out / "rungs.jsonl")
    num_steps = Schedule.of(job.settings.recipe, len(share.train)).num_steps
    whole = replace(share, runs=job.runs)
    runs = job.runs
    for rung in RUNGS:
        step = max(1, int(rung * num_steps))
        stacks.work_off(
            lambda runs=runs, step=step: scores.missing(runs, step),
            lambda stack, step=step: train_to(stack, whole, step, scores),
        )
        kept = better_half(runs, scores.at(step))
        leaving = sorted({run.config for run in runs} - kept)
        job.console.print(f"step {step}: left out from here on: {', '.join(leaving) or 'none'}")
        runs = [run for run in runs if run.config in kept]
    return runs


def better_half(runs: Sequence[Run], scores: dict[str, float]) -> set[str]:
    """The configurations that go on: the better half, rounded up, and the two baselines.

    Args:
        runs: what was trained to this rung.
        scores: validation F1 by run id.
    """
    by_config: dict[str, list[float]] = {}
    for run in runs:
        by_config.setdefault(run.config, []).append(scores[run.id])
    ranked = sorted(by_config, key=lambda config: -fmean(by_config[config]))
    kept = set(ranked[: math.ceil(len(ranked) / 2)])
    return kept | {code for code in ranked if is_fully_causal(code) or is_fully_open(code)}


class RungScores:
    """Validation F1 of runs under way, one JSON line each; a torn line is scored again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def at(self, step: int) -> dict[str, float]:
        """F1 by run id at one step."""
        return Ranks.here().agree(partial(self._read, step))

    def _read(self, step: int) -> dict[str, float]:
        found: dict[str, float] = {}
        if not self.path.exists():
            return found
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if record["step"] == step:
                found[record["run_id"]] = record["validation_f1"]
        return found

    def missing(self, runs: Sequence[Run], step: int) -> list[Run]:
        """Those of `runs` that have no score at `step`."""
        known = self.at(step)
        return [run for run in runs if run.id not in known]

    def append(self, run: Run, step: int, validation_f1: float) -> None:
        """Write one score and sync."""
        if not Ranks.here().is_first:
            return
        record = {
            "run_id": run.id,
            "name": run.name,
            "step": step,
            "validation_f1": validation_f1,
        }
        with self.path.open("ab") as file:
            # A newline first: whatever a kill left of the last line ends there.
            file.write(f"\n{json.dumps(record)}\n".encode())
            file.flush()
            os.fsync(file.fileno())


def train_to(stack: Sequence[Run], share: Share, step: int, scores: RungScores) -> None:
    """Train a stack of runs of `share` to a step, and write their validation F1 there."""

    def score(
        job: Job, model: UnmaskedForTokenClassification, ended: Mapping[int, Member]
    ) -> list[float]:
        found = job.score(model, "validation", places=list(ended))
        diverged = [member.trainee.progress.diverged for member in ended.values()]
        f1 = [0.0 if bad else own["f1"] for bad, own in zip(diverged, found, strict=True)]
        for member, own in zip(ended.values(), f1, strict=True):
            scores.append(member.run, step, own)
        return f1

    train_shares(stack, [share], score, step)
