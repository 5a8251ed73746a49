"""Train the runs that the ledger lacks, stack by stack, and write each to the ledger.

What is missing is asked of the ledger before every stack, so nothing is trained twice, also when
memory ran out between two of a stack's records.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from unmask.backbones import LoadedBackbone
from unmask.card import CardFacts
from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Corpus
from unmask.data.tags import tag_names
from unmask.results.record import RunRecord
from unmask.results.run import Run, RunResult
from unmask.sweep.estimate import bytes_in_words, estimate, free_memory
from unmask.sweep.halving import survivors
from unmask.sweep.job import Job
from unmask.sweep.stack_loop import StackLoop
from unmask.training.batches import encode_split
from unmask.training.checkpoint import Progress, delete_checkpoint
from unmask.training.environment import peak_memory_bytes
from unmask.training.fit import fit
from unmask.training.module import Trainee


def train_missing(job: Job) -> None:
    """Train what the ledger lacks of the job's runs.

    Raises:
        RuntimeError: when a layer does not see what its configuration says; nothing is trained.
        OSError: when the disk is full; what was finished is in the ledger.
    """
    _delete_leftovers(job)
    missing = job.ledger.missing(job.runs)
    done = len(job.runs) - len(missing)
    job.console.print(f"{len(job.runs)} runs, {done} of them already in {job.ledger.path}")
    if not missing:
        return
    train = encode_training_split(job.loaded, job.corpus, job.settings.recipe.max_subtokens)
    stacks = StackLoop(job, first_width(job, train, len(missing)))
    runs = job.runs
    if job.settings.halving and not job.loaded.is_encoder:
        runs = survivors(job, train, stacks)
    stacks.work_off(lambda: job.ledger.missing(runs), lambda stack: train_stack(job, stack, train))


def encode_training_split(
    loaded: LoadedBackbone, corpus: Corpus, max_subtokens: int
) -> list[EncodedSentence]:
    """Sub-tokens and tag ids of the training split for this backbone."""
    encoder = WordEncoder(loaded.tokenizer)
    return encode_split(corpus.train, encoder, tag_names(corpus.labels), max_subtokens)


def _delete_leftovers(job: Job) -> None:
    """Checkpoints of runs that were killed after their record was written."""
    for result in job.results():
        delete_checkpoint(job.folder(result.run))


def first_width(job: Job, train: Sequence[EncodedSentence], num_missing: int) -> int:
    """How many of the missing runs share a forward pass: what was asked for, or what fits."""
    cost = estimate(job.loaded, job.settings.recipe, train)
    free = free_memory(job.loaded.model.device) // job.settings.workers
    share = -(-num_missing // job.settings.workers)
    width = min(job.settings.fuse or cost.width(free, share), share)
    job.console.print(
        f"runs per forward pass: {width}, estimated {bytes_in_words(cost.bytes_per_run)} each; "
        f"{bytes_in_words(free)} are free"
    )
    return width


def train_stack(job: Job, runs: Sequence[Run], train: Sequence[EncodedSentence]) -> None:
    """Train `runs` to the end in one stack, score them on validation, write them down."""
    with job.model(runs) as model:
        trainees = [Trainee(r.name, r.seed, r.recipe, train, Progress(r.id)) for r in runs]
        folders = [job.folder(run) for run in runs]
        fit(model, trainees, folders, **job.fit_settings())
        started = time.monotonic()
        scores = job.score(model, "validation", keep_for=runs)
        seconds = (time.monotonic() - started) / len(runs)
        for index, (run, trainee) in enumerate(zip(runs, trainees, strict=True)):
            result = _result(job, run, trainee.progress, scores[index], seconds)
            model.save_pretrained(folders[index], index, CardFacts.of(job.corpus, result))
            RunRecord(result, job.loaded.load_from, job.settings.data()).write(folders[index])
            job.ledger.append_run(result)
            delete_checkpoint(folders[index])
            job.console.print(_in_one_line(result))


def _result(job: Job, run: Run, progress: Progress, validation: dict, seconds: float) -> RunResult:
    return RunResult(
        run=run,
        scores={"validation": validation},
        curves=_curves(progress),
        timings={
            "train_seconds": progress.seconds,
            "train_tokens": progress.tokens,
            "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
            "validation_seconds": seconds,
            "peak_memory_bytes": peak_memory_bytes(job.loaded.model.device),
        },
        # `fit` trains nothing whose proof fails.
        environment={**job.environment, "mask_proof": "every layer agreed"},
        status="diverged" if progress.diverged else "finished",
    )


def _curves(progress: Progress) -> dict[str, list[float]]:
    curves = {"train_loss": progress.train_loss}
    if progress.validation_f1:
        curves["validation_f1"] = progress.validation_f1
    return curves


def _in_one_line(result: RunResult) -> str:
    if result.status == "diverged":
        steps = len(result.curves["train_loss"])
        return (
            f"warning: {result.run.name} diverged: its loss or gradient was no finite number at "
            f"step {steps}; it counts for nothing (a smaller --learning-rate may help)"
        )
    f1, seconds = result.scores["validation"]["f1"], result.timings["train_seconds"]
    return f"done: {result.run.name}, validation F1 {f1:.3f}, {seconds:.3g} s of training"
