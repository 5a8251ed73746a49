"""Score the test split, once, for the runs that may be scored on it.

The one thing that is easy to get wrong: test scores must not take part in any choice. The
configuration is chosen here, on validation, before the first test sentence is looked at. Card and
run.json of a labeler get its test scores before the ledger does: killed in between, the same
command scores that labeler again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unmask.card import CardFacts, write_card
from unmask.model import UnmaskedForTokenClassification
from unmask.ranks import Ranks
from unmask.results.groups import is_fully_causal, is_fully_open
from unmask.results.record import RunRecord
from unmask.results.run import Run, RunResult
from unmask.results.statistics import choose_configuration
from unmask.saving import load_adapter
from unmask.sweep.job import Job
from unmask.sweep.plan import stacks

RUNS_PER_MODEL = 4
"""Adapters held at once; runs are scored one after another anyway."""


def score_test(job: Job) -> None:
    """Score every finished run that may be scored and has not been.

    Raises:
        ValueError: when a finished run's adapter is gone, damaged or of another backbone.
    """
    finished = [result for result in job.results() if result.status == "finished"]
    if not finished:
        job.console.print(f"warning: no run of {job.loaded.weights.name} finished: no test scores")
        return
    tested = _tested_configs(job, finished)
    due = [
        result.run
        for result in finished
        if result.run.config in tested and "test" not in result.scores
    ]
    score_runs(job, due)


def score_runs(job: Job, runs: Sequence[Run]) -> None:
    """Score these finished runs on the test split, and write it down.

    Raises:
        ValueError: when a run's adapter is gone, damaged or of another backbone.
    """
    for stack in stacks(runs, RUNS_PER_MODEL):
        results = {result.run.id: result for result in job.results()}
        with job.model(stack) as model:
            for index, run in enumerate(stack):
                load_adapter(model, job.folder(run), index)
            scored = job.score(model, "test", keep_for=stack)
            proofs = model.verify_masks()  # by all ranks, as every pass over the backbone
            for index, (run, scores) in enumerate(zip(stack, scored, strict=True)):
                result = results[run.id]
                tested = replace(result, scores={**result.scores, "test": scores})
                if Ranks.here().is_first:
                    facts = replace(job.facts, result=tested, proof=proofs[index])
                    _publish(job, model, index, facts)
                job.ledger.append_test(run.id, scores)


def _publish(job: Job, model: UnmaskedForTokenClassification, index: int, facts: CardFacts) -> None:
    """Write card and record of a labeler again, now with its test scores."""
    assert facts.result is not None
    folder = job.folder(facts.result.run)
    write_card(model, folder, index, facts)
    RunRecord(facts.result, job.loaded.load_from, job.settings.data()).write(folder)


def _tested_configs(job: Job, finished: Sequence[RunResult]) -> set[str]:
    configs = {result.run.config for result in finished}
    if job.loaded.is_encoder:
        return configs
    chosen = choose_configuration(job.results())
    job.console.print(f"chosen on validation: {chosen}{job.told_apart}")
    one = next(result.run for result in finished if result.run.config == chosen)
    job.console.print(f"a labeler with that configuration: {job.folder(one)}")
    if job.settings.test == "all":
        return configs
    return {chosen} | {code for code in configs if is_fully_causal(code) or is_fully_open(code)}
