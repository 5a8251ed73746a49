"""Search the configurations when there are too many to train them all.

A configuration is a string of bits, one a group of layers, up to one a layer; a search may also
choose learning rate, rank and targets of the adapters. Optuna keeps the trials and a sampler
proposes them; several are asked for together, trained in one stack on one backbone, and told.
All causal and all open come first, so every gain can be told against them. The trials' runs are
ordinary runs in the sweep's ledger: what is there is not trained again, also when it was written
as a code of other groups, and reports show them like any other. The score of a trial is its mean
validation F1 over the seeds; test scores take no part.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Protocol

import optuna
from optuna.trial import Trial, TrialState

from unmask.recipe import Recipe
from unmask.results.run import ENCODER, Run, RunResult
from unmask.results.statistics import f1_of
from unmask.sweep.halving import RUNGS, RungScores, train_to
from unmask.sweep.in_step import in_step
from unmask.sweep.job import Job
from unmask.sweep.plan import SearchSettings, shared_in_a_stack
from unmask.sweep.samplers import Bits, make_pruner, make_sampler, untried
from unmask.sweep.space import Candidate, Space, parse_dimension
from unmask.sweep.stack import Share, train_shares
from unmask.sweep.stack_loop import SECONDS_BETWEEN_LOOKS, StackLoop
from unmask.sweep.study import WorkedStudy, open_storage, open_study
from unmask.sweep.train import encode_training_split, first_width, record
from unmask.training.batches import Schedule


class Scorer(Protocol):
    """Who trains candidates, several at once."""

    def scores(self, candidates: Sequence[Candidate]) -> dict[Candidate, float]:
        """Final scores."""
        ...

    def at_rung(self, candidates: Sequence[Candidate], share: float) -> dict[Candidate, float]:
        """Scores after a share of the steps; a candidate that is trained already has none."""
        ...


MAX_REPEATS = 20
"""Proposals in a row that repeat what was tried, before the search goes without the sampler."""

TRIED = (TrialState.COMPLETE, TrialState.PRUNED)


def search_configurations(job: Job, search: SearchSettings) -> None:
    """Search on from wherever an earlier call left the study; `job.runs` becomes what was tried.

    Where the recipe is searched too, `job.runs` becomes those of the best recipe, with which all
    causal and all open are trained as well, so that the gain is told against their like.

    Raises:
        ValueError: for more groups than layers, a recipe outside of what is searched, or a
            storage that cannot be opened.
    """
    num_layers = job.loaded.model.config.num_hidden_layers
    dimensions = tuple(map(parse_dimension, search.over))
    space = Space(num_layers, search.num_groups or num_layers, dimensions)
    trainer = _Trainer(job, space)
    found = in_step(trainer, lambda scorer: _search(job, space, search, scorer))
    trainer.admit(found)
    best = max(found, key=lambda candidate: found[candidate])
    job.console.print(
        f"search: the best validation F1 of {len(found)} is {found[best]:.3f}, by {best}"
    )
    if space.dimensions:
        trainer.scores([Candidate(code, best.changes) for code in space.ends])
        recipe = best.recipe(job.settings.recipe)
        job.runs = [run for run in job.runs if run.recipe == recipe]


def _search(
    job: Job, space: Space, search: SearchSettings, scorer: Scorer
) -> dict[Candidate, float]:
    """Go on with the study that is kept for this job; gives all scores in it."""
    storage = open_storage(search.storage, job.settings.out)
    sampler = make_sampler(search.sampler, space, search.num_trials, search.seed + len(job.runs))
    study = open_study(storage, study_name(job, space), sampler, make_pruner())
    with WorkedStudy(study, job.settings.out / "locks") as worked:
        job.console.print(
            f"search: {len(tried(study, space))} of {min(search.num_trials, space.size)} "
            f"configurations of {space.num_groups} bits are done"
        )
        found = run_search(worked, space, search, scorer, job.settings.recipe, job.console.print)
        whole = "" if space.dimensions else f" of 2^{space.num_groups}"
        job.console.print(f"search: {len(tried(study, space))}{whole} configurations tried")
    return found


def run_search(
    worked: WorkedStudy,
    space: Space,
    search: SearchSettings,
    scorer: Scorer,
    recipe: Recipe,
    say: Callable[[str], None] = lambda line: None,
) -> dict[Candidate, float]:
    """Ask, score and tell until as many configurations as wanted were tried.

    Args:
        worked: the study; other workers may work on it too.
        space: what may be chosen.
        search: how many, how many at a time, what first, and whether to prune.
        scorer: gives the scores of several candidates at once.
        recipe: what the first candidates are tried with.
        say: told in a line what was found.

    Returns:
        Scores of everything in the study that was trained to the end.
    """
    wanted = min(search.num_trials, space.size)
    rng = random.Random(search.seed)
    with worked.locked():
        if revived := worked.revive():
            say(f"search: trials {', '.join(map(str, revived))} were cut off and are queued again")
        for code in _first_codes(space, search):
            params = space.params(code, recipe)
            if space.candidate(params) not in _taken(worked, space):
                worked.queue(params)
    while len(done := tried(worked.study, space)) < wanted:
        with worked.locked():
            worked.revive()
            count = int(min(search.at_a_time, wanted - len(done) - worked.num_running()))
            trials = [_ask_untried(worked, space, rng) for _ in range(count)]
        asked = {_candidate(trial, space): trial for trial in trials if trial}
        if not asked:
            time.sleep(SECONDS_BETWEEN_LOOKS)  # other workers have the last ones
            continue
        if search.prune:
            asked = _prune(worked, space, scorer, asked, say)
        found = scorer.scores(list(asked)) if asked else {}
        for candidate, trial in asked.items():
            worked.tell(trial, found[candidate])
            say(f"search: trial {trial.number}, {candidate}: validation F1 {found[candidate]:.3f}")
    return {candidate: value for candidate, value in done.items() if value is not None}


def tried(study: optuna.Study, space: Space) -> dict[Candidate, float | None]:
    """Every candidate that was tried, with its score; None for what was only ever pruned."""
    found: dict[Candidate, float | None] = {}
    for trial in study.get_trials(deepcopy=False, states=TRIED):
        candidate = space.candidate(trial.params)
        if candidate is not None and found.get(candidate) is None:
            finished = trial.state == TrialState.COMPLETE
            found[candidate] = trial.value if finished else None
    return found


def study_name(job: Job, space: Space) -> str:
    """Names everything that a score depends on besides what is searched."""
    settings = job.settings
    alike = Run(
        job.loaded.weights.name, settings.task, "", 0, settings.recipe, job.corpus.fingerprint()
    )
    seeds = "-".join(map(str, settings.seeds))
    over = "".join(f"/{one.text}" for one in space.dimensions)
    return f"{alike.backbone}/{alike.task}/{space.num_groups} bits{over}/seeds {seeds}/{alike.id}"


def _prune(
    worked: WorkedStudy,
    space: Space,
    scorer: Scorer,
    asked: Mapping[Candidate, Trial],
    say: Callable[[str], None],
) -> dict[Candidate, Trial]:
    """Train to each rung and end the trials that do badly there; gives those that are left."""
    left = dict(asked)
    for rung, share in enumerate(RUNGS):
        for candidate, score in scorer.at_rung(list(left), share).items():
            trial = left[candidate]
            trial.report(score, rung)
            if candidate.code not in space.ends and trial.should_prune():
                worked.prune(left.pop(candidate))
                say(
                    f"search: trial {trial.number}, {candidate}: pruned after {share:.0%} of its "
                    f"steps at validation F1 {score:.3f}"
                )
    return left


class _Trainer:
    """Gives scores from the ledger, and trains what it lacks."""

    def __init__(self, job: Job, space: Space) -> None:
        self.job = job
        self.space = space
        # The same layers may be in the ledger under a code of other groups.
        self.spelled = {
            (space.flags(run.config), run.recipe): run.config
            for run in reversed(job.runs)
            if run.config != ENCODER
        }
        recipe = job.settings.recipe
        self.train = encode_training_split(job.loaded, job.corpus, recipe.max_subtokens)
        self.num_steps = Schedule.of(recipe, len(self.train)).num_steps
        self.rungs = RungScores(job.settings.out / "rungs.jsonl")
        search = job.settings.search
        num_runs = len(job.settings.seeds) * (search.at_a_time if search else 1)
        self.stacks = StackLoop(job, first_width(job, self.train, num_runs))

    def scores(self, candidates: Sequence[Candidate]) -> dict[Candidate, float]:
        """Mean validation F1 over the seeds; a run that diverged counts as 0."""
        runs = {candidate: self._runs(candidate) for candidate in candidates}
        self.admit(candidates)
        due = _seed_by_seed(runs)
        self.stacks.work_off(
            lambda: _for_one_stack(self.job.ledger.missing(due)),
            lambda stack: train_shares(stack, [Share(self.job, due, self.train)], record),
        )
        by_id = {result.run.id: result for result in self.job.ledger.results()}
        return {one: fmean(_score(by_id[run.id]) for run in own) for one, own in runs.items()}

    def at_rung(self, candidates: Sequence[Candidate], share: float) -> dict[Candidate, float]:
        """Mean validation F1 over the seeds after a share of the steps, where it is not too late.

        Runs that are in the ledger already have no score on the way.
        """
        step = max(1, int(share * self.num_steps))
        runs = {candidate: self._runs(candidate) for candidate in candidates}
        due = self.job.ledger.missing(_seed_by_seed(runs))
        self.stacks.work_off(
            lambda: _for_one_stack(self.rungs.missing(due, step)),
            lambda stack: train_to(stack, Share(self.job, due, self.train), step, self.rungs),
        )
        known = self.rungs.at(step)
        found = {
            one: [known[run.id] for run in own if run.id in known] for one, own in runs.items()
        }
        return {candidate: fmean(scores) for candidate, scores in found.items() if scores}

    def admit(self, candidates: Iterable[Candidate]) -> None:
        """Make the runs of candidates runs of the job, so that they take part in its choice."""
        known = {run.id for run in self.job.runs}
        self.job.runs = [
            *self.job.runs,
            *(run for one in candidates for run in self._runs(one) if run.id not in known),
        ]

    def _runs(self, candidate: Candidate) -> list[Run]:
        settings, name = self.job.settings, self.job.loaded.weights.name
        recipe = candidate.recipe(settings.recipe)
        layers = (self.space.flags(candidate.code), recipe)
        config = self.spelled.setdefault(layers, candidate.code)
        fingerprint = self.job.corpus.fingerprint()
        return [
            Run(name, settings.task, config, seed, recipe, fingerprint) for seed in settings.seeds
        ]


def _seed_by_seed(runs: Mapping[Candidate, Sequence[Run]]) -> list[Run]:
    return [run for of_seed in zip(*runs.values(), strict=True) for run in of_seed]


def _for_one_stack(runs: Sequence[Run]) -> list[Run]:
    """Those of `runs` that may share a forward pass with the first."""
    shared = [shared_in_a_stack(run.recipe) for run in runs]
    return [run for run, of_run in zip(runs, shared, strict=True) if of_run == shared[0]]


def _score(result: RunResult) -> float:
    f1 = f1_of(result, "validation")
    return 0.0 if f1 is None else f1


def _first_codes(space: Space, search: SearchSettings) -> list[str]:
    return list(dict.fromkeys([*space.ends, *(space.code(config) for config in search.first)]))


def _candidate(trial: Trial, space: Space) -> Candidate:
    found = space.candidate(trial.params)
    assert found is not None, f"trial {trial.number} was asked with other parameters"
    return found


def _taken(worked: WorkedStudy, space: Space, but: Trial | None = None) -> set[Candidate]:
    """Candidates that were tried or are under way."""
    trials = worked.study.get_trials(deepcopy=False, states=(*TRIED, TrialState.RUNNING))
    found = (space.candidate(one.params) for one in trials if not but or one.number != but.number)
    return {candidate for candidate in found if candidate is not None}


def _ask_untried(worked: WorkedStudy, space: Space, rng: random.Random) -> Trial | None:
    """A trial of a candidate that nobody has tried; None when there is none left."""
    taken: set[Candidate] = set()
    for _ in range(MAX_REPEATS):
        trial = worked.ask(space.distributions)
        taken = _taken(worked, space, but=trial)
        if _candidate(trial, space) not in taken:
            return trial
        worked.set_aside(trial)
        if len(taken) >= space.size:
            return None
    worked.queue(_drawn(space, taken, rng))
    return worked.ask(space.distributions)


def _drawn(space: Space, taken: set[Candidate], rng: random.Random) -> dict[str, Any]:
    """Parameters by chance of a candidate that was not tried."""
    while True:
        others = {one.field: one.draw(rng) for one in space.dimensions}
        changes = space.changes(others)
        codes: set[Bits] = {tuple(map(int, one.code)) for one in taken if one.changes == changes}
        if len(codes) < 2**space.num_groups:
            bits = untried(space.num_groups, codes, rng)
            return {**dict(zip(space.names, bits, strict=True)), **others}
