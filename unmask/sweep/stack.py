"""One stack: runs of one or several jobs trained together, each handed over when it ends.

A run that ends is recorded at once, while the others wait, and a run that is still to be done
takes its place where the stack is wide enough for it. So a short run does not wait for a long
one, and a stack stays full as long as there is work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from unmask.data.alignment import EncodedSentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.results.run import Run
from unmask.sweep.job import Job, stacked
from unmask.sweep.stack_loop import Stack
from unmask.training.checkpoint import Progress
from unmask.training.fit import Successor, fit
from unmask.training.module import Trainee
from unmask.training.trackers import Curves, TrackedRun


@dataclass(frozen=True)
class Share:
    """The runs of one job that are to be trained, and what they are trained on."""

    job: Job
    runs: Sequence[Run]
    train: Sequence[EncodedSentence]


@dataclass(frozen=True, eq=False)
class Member:
    """A run in a stack: whose it is, and how far."""

    job: Job
    run: Run
    trainee: Trainee

    @classmethod
    def of(cls, share: Share, run: Run, stop_step: int | None) -> Member:
        """A run of `share` that has not begun."""
        progress = Progress(run.id)
        trainee = Trainee(run.name, run.seed, run.recipe, share.train, progress, stop_step)
        return cls(share.job, run, trainee)

    @property
    def successor(self) -> Successor:
        """The same for `fit`."""
        return Successor(self.trainee, self.job.folder(self.run))

    def fits(self, model: UnmaskedForTokenClassification) -> bool:
        """Is the stack wide enough for it?"""
        lora = LoraSettings.from_recipe(self.run.recipe)
        return model.has_room_for(self.job.corpus.labels, lora)

    def begin(self, model: UnmaskedForTokenClassification, place: int) -> None:
        """Take the place of a run that ended."""
        run = self.run
        config = configuration(self.job.loaded, run.config)
        lora = LoraSettings.from_recipe(run.recipe)
        model.begin(place, self.job.corpus.labels, config, lora, run.seed)


Record = Callable[[Job, UnmaskedForTokenClassification, Mapping[int, Member]], Sequence[float]]
"""Does what is to be done with runs of one job that have ended, given by their places.

Gives their validation F1.
"""


def train_shares(
    stack: Sequence[Run], shares: Sequence[Share], record: Record, stop_step: int | None = None
) -> None:
    """Train a stack to the end, and after it what it can claim of the rest.

    Args:
        stack: the runs to begin with. Where it is a `Stack`, runs that wait take the places of
            those that end.
        shares: jobs on one backbone; every run in question belongs to one of them.
        record: called with runs that have ended, job by job.
        stop_step: where all runs pause, if not at their own end.
    """
    of_run = {run.id: share for share in shares for run in share.runs}
    members = [Member.of(of_run[run.id], run, stop_step) for run in stack]

    def on_end(places: Sequence[int]) -> dict[int, Successor]:
        ended = {place: members[place] for place in places}
        for job in {id(member.job): member.job for member in ended.values()}.values():
            of_job = {p: member for p, member in ended.items() if member.job is job}
            for member, f1 in zip(of_job.values(), record(job, model, of_job), strict=True):
                curves.scored(member.trainee, f1)
        successors = _claimed(stack, len(places), of_run, model, stop_step)
        for place, member in zip(places, successors, strict=False):
            members[place] = member
            member.begin(model, place)
        return {place: members[place].successor for place in places[: len(successors)]}

    def tracked(run_id: str) -> TrackedRun:
        job = of_run[run_id].job
        run = next(run for run in of_run[run_id].runs if run.id == run_id)
        return TrackedRun(run_id, run.name, run.to_dict(), job.folder(run), job.settings.out)

    with (
        Curves(tracked, members[0].job.settings.track) as curves,
        stacked([(member.job, member.run) for member in members]) as model,
    ):
        fit(
            model,
            [member.trainee for member in members],
            [member.successor.folder for member in members],
            on_end=on_end,
            more=[curves],
            **members[0].job.fit_settings(),
        )


def _claimed(
    stack: Sequence[Run],
    count: int,
    of_run: Mapping[str, Share],
    model: UnmaskedForTokenClassification,
    stop_step: int | None,
) -> list[Member]:
    """Up to `count` runs that wait and that the stack is wide enough for."""
    if not isinstance(stack, Stack):
        return []

    def fits(run: Run) -> bool:
        return run.id in of_run and Member.of(of_run[run.id], run, stop_step).fits(model)

    return [Member.of(of_run[run.id], run, stop_step) for run in stack.claim(count, fits)]
