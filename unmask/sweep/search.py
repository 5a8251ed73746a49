"""Search the configurations when there are too many to train them all.

A configuration is a string of bits, one a group of layers, up to one a layer. Optuna keeps the
trials and a sampler proposes them; several are asked for together, trained in one stack on one
backbone, and told. All causal and all open come first, so every gain can be told against them.
The trials' runs are ordinary runs in the sweep's ledger: what is there is not trained again,
also when it was written as a code of other groups, and reports show them like any other. The
score of a trial is its mean validation F1 over the seeds; test scores take no part.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from optuna.trial import Trial, TrialState

from unmask.config import UnmaskConfig, group_sizes
from unmask.results.run import ENCODER, Run, RunResult
from unmask.results.statistics import f1_of
from unmask.sweep.job import Job
from unmask.sweep.plan import SearchSettings
from unmask.sweep.samplers import Bits, bit_space, make_sampler, untried
from unmask.sweep.stack_loop import SECONDS_BETWEEN_LOOKS, StackLoop
from unmask.sweep.study import WorkedStudy, code_of, open_storage, open_study, told
from unmask.sweep.train import encode_training_split, first_width, train_stack

Scorer = Callable[[Sequence[str]], dict[str, float]]
"""Codes to their scores; trains what has none."""

MAX_REPEATS = 20
"""Proposals in a row that repeat what was tried, before the search goes without the sampler."""


@dataclass(frozen=True)
class Space:
    """The codes of one search, and the names of their bits, input side first."""

    num_layers: int
    num_groups: int

    @property
    def names(self) -> list[str]:
        """Names that sort in the order of the layers.

        >>> Space(num_layers=12, num_groups=5).names[:2]
        ['layers_00_02', 'layers_03_05']
        """
        digits = len(str(self.num_layers - 1))
        names, first = [], 0
        for size in group_sizes(self.num_groups, self.num_layers):
            last = first + size - 1
            names.append(
                f"layer_{first:0{digits}}"
                if size == 1
                else f"layers_{first:0{digits}}_{last:0{digits}}"
            )
            first += size
        return names

    def flags(self, code: str) -> tuple[bool, ...]:
        """One flag a layer."""
        return UnmaskConfig.parse(code, self.num_layers).bidirectional

    def code(self, config: str) -> str:
        """The code in this space that opens the same layers as `config`.

        Raises:
            ValueError: when none does, because a group would be half open.
        """
        flags, bits, first = self.flags(config), "", 0
        for size in group_sizes(self.num_groups, self.num_layers):
            of_group = set(flags[first : first + size])
            if len(of_group) > 1:
                raise ValueError(
                    f"--configs: {config} opens part of a group of layers, and the search is over "
                    f"{self.num_groups} groups; leave it out or raise --groups"
                )
            bits += "01"[of_group.pop()]
            first += size
        return bits


def search_configurations(job: Job, search: SearchSettings) -> None:
    """Search on from wherever an earlier call left the study; `job.runs` becomes what was tried.

    Raises:
        ValueError: for more groups than layers, or a storage that cannot be opened.
    """
    num_layers = job.loaded.model.config.num_hidden_layers
    space = Space(num_layers, search.num_groups or num_layers)
    storage = open_storage(search.storage, job.settings.out)
    trainer = _Trainer(job, space)
    sampler_seed = search.seed + len(job.runs)
    sampler = make_sampler(search.sampler, space.names, search.num_trials, sampler_seed)
    study = open_study(storage, study_name(job, space), sampler)
    with WorkedStudy(study, job.settings.out / "locks") as worked:
        job.console.print(
            f"search: {len(told(study, space.names))} of "
            f"{min(search.num_trials, 2**space.num_groups)} configurations of "
            f"{space.num_groups} bits are done"
        )
        found = run_search(worked, space, search, trainer.scores, job.console.print)
    trainer.admit(found)
    best = max(found, key=lambda code: found[code])
    job.console.print(
        f"search: {len(found)} of 2^{space.num_groups} configurations tried, best validation F1 "
        f"{found[best]:.3f} by {best}"
    )


def run_search(
    worked: WorkedStudy,
    space: Space,
    search: SearchSettings,
    scores: Scorer,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Ask, score and tell until as many configurations as wanted have a score.

    Args:
        worked: the study; other workers may work on it too.
        space: what the bits mean.
        search: how many, how many at a time, what first.
        scores: gives the scores of several codes at once.
        say: told in a line what was found.

    Returns:
        Score by code, of everything in the study.
    """
    wanted = min(search.num_trials, 2**space.num_groups)
    rng = random.Random(search.seed)
    with worked.locked():
        if revived := worked.revive():
            say(f"search: trials {', '.join(map(str, revived))} were cut off and are queued again")
        for code in _first_codes(space, search):
            if code not in _taken(worked, space):
                worked.queue(_params(code, space))
    while len(done := told(worked.study, space.names)) < wanted:
        with worked.locked():
            worked.revive()
            count = min(search.at_a_time, wanted - len(done) - worked.num_running())
            trials = [_ask_untried(worked, space, rng) for _ in range(count)]
        asked = {code_of(trial.params, space.names): trial for trial in trials if trial}
        if not asked:
            time.sleep(SECONDS_BETWEEN_LOOKS)  # other workers have the last ones
            continue
        found = scores(list(asked))
        for code, trial in asked.items():
            worked.tell(trial, found[code])
            say(f"search: trial {trial.number}, {code}: validation F1 {found[code]:.3f}")
    return done


def study_name(job: Job, space: Space) -> str:
    """Names everything that a score depends on besides the configuration."""
    settings = job.settings
    alike = Run(
        job.loaded.weights.name, settings.task, "", 0, settings.recipe, job.corpus.fingerprint()
    )
    seeds = "-".join(map(str, settings.seeds))
    return f"{alike.backbone}/{alike.task}/{space.num_groups} bits/seeds {seeds}/{alike.id}"


class _Trainer:
    """Gives scores from the ledger, and trains what it lacks."""

    def __init__(self, job: Job, space: Space) -> None:
        self.job = job
        self.space = space
        # The same layers may be in the ledger under a code of other groups.
        self.spelled = {
            space.flags(run.config): run.config
            for run in reversed(job.runs)
            if run.config != ENCODER
        }
        recipe = job.settings.recipe
        self.train = encode_training_split(job.loaded, job.corpus, recipe.max_subtokens)
        search = job.settings.search
        num_runs = len(job.settings.seeds) * (search.at_a_time if search else 1)
        self.stacks = StackLoop(job, first_width(job, self.train, num_runs))

    def scores(self, codes: Sequence[str]) -> dict[str, float]:
        """Mean validation F1 over the seeds; a run that diverged counts as 0."""
        runs = {code: self._runs(code) for code in codes}
        self.admit(codes)
        due = [run for seed_runs in zip(*runs.values(), strict=True) for run in seed_runs]
        self.stacks.work_off(
            lambda: self.job.ledger.missing(due),
            lambda stack: train_stack(self.job, stack, self.train),
        )
        by_id = {result.run.id: result for result in self.job.ledger.results()}
        return {
            code: fmean(_score(by_id[run.id]) for run in of_code) for code, of_code in runs.items()
        }

    def admit(self, codes: Sequence[str] | dict[str, float]) -> None:
        """Make the runs of `codes` runs of the job, so that they take part in its choice."""
        known = {run.id for run in self.job.runs}
        self.job.runs = [
            *self.job.runs,
            *(run for code in codes for run in self._runs(code) if run.id not in known),
        ]

    def _runs(self, code: str) -> list[Run]:
        settings, name = self.job.settings, self.job.loaded.weights.name
        config = self.spelled.setdefault(self.space.flags(code), code)
        fingerprint = self.job.corpus.fingerprint()
        return [
            Run(name, settings.task, config, seed, settings.recipe, fingerprint)
            for seed in settings.seeds
        ]


def _score(result: RunResult) -> float:
    f1 = f1_of(result, "validation")
    return 0.0 if f1 is None else f1


def _first_codes(space: Space, search: SearchSettings) -> list[str]:
    ends = ["0" * space.num_groups, "1" * space.num_groups]
    return list(dict.fromkeys([*ends, *(space.code(config) for config in search.first)]))


def _params(code: str, space: Space) -> dict[str, int]:
    return dict(zip(space.names, map(int, code), strict=True))


def _taken(worked: WorkedStudy, space: Space, but: Trial | None = None) -> set[str]:
    """Codes that are scored or under way."""
    states = (TrialState.COMPLETE, TrialState.RUNNING)
    return {
        code_of(trial.params, space.names)
        for trial in worked.study.get_trials(deepcopy=False, states=states)
        if (but is None or trial.number != but.number) and set(space.names) <= set(trial.params)
    }


def _ask_untried(worked: WorkedStudy, space: Space, rng: random.Random) -> Trial | None:
    """A trial of a configuration that nobody has tried; None when there is none left."""
    distributions = bit_space(space.names)
    taken: set[str] = set()
    for _ in range(MAX_REPEATS):
        trial = worked.ask(distributions)
        taken = _taken(worked, space, but=trial)
        if code_of(trial.params, space.names) not in taken:
            return trial
        worked.set_aside(trial)
        if len(taken) == 2**space.num_groups:
            return None
    tried: set[Bits] = {tuple(map(int, code)) for code in taken}
    worked.queue(dict(zip(space.names, untried(space.num_groups, tried, rng), strict=True)))
    return worked.ask(distributions)
