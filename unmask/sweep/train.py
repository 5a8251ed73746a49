"""Train the runs that the ledger lacks, stack by stack, and write each to the ledger.

Jobs on one backbone are trained together: stacks take their runs from all of them, so runs of
several tasks and recipes may share a forward pass. What is missing is asked of the ledger before
every stack, so nothing is trained twice, also when memory ran out between two of a stack's
records.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from unmask.backbones import LoadedBackbone
from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Corpus
from unmask.data.tags import tag_names
from unmask.model import UnmaskedForTokenClassification
from unmask.ranks import Ranks
from unmask.results.record import RunRecord
from unmask.results.run import Run
from unmask.results.tables import counted
from unmask.sweep.halving import survivors
from unmask.sweep.job import Job
from unmask.sweep.memory import MemoryMeter
from unmask.sweep.stack import Member, Share, train_shares
from unmask.sweep.stack_loop import Stack, StackLoop
from unmask.training.batches import encode_split
from unmask.training.checkpoint import delete_checkpoint
from unmask.training.estimate import Cost, bytes_in_words, estimate, free_memory
from unmask.training.result import in_one_line, run_result


def train_missing(job: Job) -> None:
    """Train what the ledger lacks of one job's runs; see `train_together`."""
    train_together([job])


def train_together(jobs: Sequence[Job]) -> None:
    """Train what the ledger lacks of the runs of jobs on one backbone.

    Raises:
        RuntimeError: when a layer does not see what its configuration says; nothing is trained.
        OSError: when the disk is full; what was finished is in the ledger.
    """
    # Two sweeps may want the same baseline.
    wanted: set[str] = set()
    shares = [share for job in jobs if (share := _share(job, wanted)).runs]
    if not shares:
        return
    first = shares[0].job
    costs = [estimate(one.job.loaded, one.job.settings.recipe, one.train) for one in shares]
    meter = MemoryMeter(first.loaded.model.device)
    stacks = StackLoop(first, _first_width(first, costs, sum(len(one.runs) for one in shares)))
    shares = [_halved(share, stacks) for share in shares]

    def pending() -> list[Run]:
        return first.ledger.missing(run for share in shares for run in share.runs)

    def recorded(
        job: Job, model: UnmaskedForTokenClassification, ended: Mapping[int, Member]
    ) -> list[float]:
        with meter.not_counted():
            return record(job, model, ended)

    def train(stack: Stack) -> None:
        meter.reset()
        train_shares(stack, shares, recorded)
        if (peak := meter.peak()) is not None:
            estimated = max(cost.bytes_of_runs(len(stack)) for cost in costs)
            first.console.print(
                f"memory of {counted(len(stack), 'run')} at a time: {bytes_in_words(peak)} at the "
                f"peak, {bytes_in_words(estimated)} were estimated"
            )

    stacks.work_off(pending, train)


def encode_training_split(
    loaded: LoadedBackbone, corpus: Corpus, max_subtokens: int
) -> list[EncodedSentence]:
    """Sub-tokens and tag ids of the training split for this backbone."""
    encoder = WordEncoder(loaded.tokenizer)
    return encode_split(corpus.train, encoder, tag_names(corpus.labels), max_subtokens)


def first_width(job: Job, train: Sequence[EncodedSentence], num_missing: int) -> int:
    """How many of the missing runs share a forward pass: what was asked for, or what fits."""
    return _first_width(job, [estimate(job.loaded, job.settings.recipe, train)], num_missing)


def record(
    job: Job, model: UnmaskedForTokenClassification, ended: Mapping[int, Member]
) -> list[float]:
    """Score runs that have ended on validation, save them, write them down.

    Args:
        job: whose runs they are.
        model: the stack.
        ended: the runs by their places in the stack.

    Returns:
        Their validation F1.
    """
    started = time.monotonic()
    runs = [member.run for member in ended.values()]
    scores = job.score(model, "validation", keep_for=runs, places=list(ended))
    seconds = (time.monotonic() - started) / len(ended)
    proofs = model.verify_masks(ended)
    for (place, member), own, proof in zip(ended.items(), scores, proofs, strict=True):
        done = (member.run, member.trainee.progress, own, seconds, job.environment)
        result = run_result(*done, job.loaded.model.device)
        folder = job.folder(member.run)
        if Ranks.here().is_first:
            model.save_pretrained(folder, place, replace(job.facts, result=result, proof=proof))
            RunRecord(result, job.loaded.load_from, job.settings.data()).write(folder)
        job.ledger.append_run(result)
        delete_checkpoint(folder)
        job.console.print(in_one_line(result, job.told_apart))
    return [own["f1"] for own in scores]


def _share(job: Job, wanted: set[str]) -> Share:
    """What the job lacks and nobody wants yet, which joins what is wanted."""
    for result in job.results():
        # Checkpoints of runs that were killed after their record was written.
        delete_checkpoint(job.folder(result.run))
    missing = job.ledger.missing(job.runs)
    done = len(job.runs) - len(missing)
    number = counted(len(job.runs), "run")
    job.console.print(f"{number}{job.told_apart}, {done} of them already in {job.ledger.path}")
    missing = [run for run in missing if run.id not in wanted]
    wanted |= {run.id for run in missing}
    limit = job.settings.recipe.max_subtokens
    train = encode_training_split(job.loaded, job.corpus, limit) if missing else []
    return Share(job, missing, train)


def _halved(share: Share, stacks: StackLoop) -> Share:
    if not share.job.settings.halving or share.job.loaded.is_encoder:
        return share
    return replace(share, runs=survivors(share, stacks))


def _first_width(job: Job, costs: Sequence[Cost], num_missing: int) -> int:
    largest = max(costs, key=lambda cost: cost.bytes_per_run)
    free = min(Ranks.here().gather(free_memory(job.loaded.model.device)))
    free //= job.settings.workers_per_device
    share = -(-num_missing // job.settings.workers)
    width = min(job.settings.fuse or largest.width(free, share), share)
    job.console.print(
        f"runs per forward pass: {width}, estimated {bytes_in_words(largest.bytes_per_run)} each; "
        f"{bytes_in_words(free)} are free"
    )
    return width
