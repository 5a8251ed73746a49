"""Do what is missing of a sweep, and write the ledger and the report.

Per backbone: train the runs that the ledger lacks, stack by stack; choose the configuration on
validation; only then score the test split, once, for what was chosen and for the baselines. A
kill at any moment costs at most a minute of one stack: finished runs are in the ledger, the
others go on from their checkpoints.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from unmask.analysis.scoring import score
from unmask.backbones import LoadedBackbone, load_backbone
from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Corpus, Sentence
from unmask.data.tags import tag_names
from unmask.data.tasks import load_task
from unmask.errors import is_out_of_memory
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult
from unmask.results.statistics import choose_configuration
from unmask.saving import load_adapter
from unmask.sweep.environment import describe_environment, peak_memory_bytes
from unmask.sweep.estimate import Cost, estimate, free_memory
from unmask.sweep.plan import SweepSettings, decoder_runs, encoder_runs, stacks
from unmask.training.batches import Schedule, encode_split
from unmask.training.checkpoint import Progress, delete_checkpoint
from unmask.training.evaluate import predict_tags
from unmask.training.fit import fit
from unmask.training.module import Trainee


@dataclass
class Job:
    """One backbone's part of a sweep."""

    settings: SweepSettings
    corpus: Corpus
    loaded: LoadedBackbone
    runs: list[Run]
    ledger: Ledger
    console: Console

    def folder(self, run: Run) -> Path:
        """Where a run keeps its checkpoint and, once finished, its adapter."""
        return self.settings.out / "runs" / run.id


def execute(settings: SweepSettings, console: Console) -> Ledger:
    """Run a sweep to its end, from wherever an earlier call left it.

    Raises:
        ValueError, FileNotFoundError: for settings, data or weights that cannot be had.
        RuntimeError: when a layer does not see what its configuration says.
        OSError: when the disk is full; what was finished is in the ledger.
    """
    corpus = load_corpus(settings)
    for note in corpus.notes:
        console.print(f"note: {note}", highlight=False)
    settings.out.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(settings.out / "ledger.jsonl")
    for name in (settings.model, *settings.baselines):
        _sweep_backbone(settings, name, corpus, ledger, console)
    for warning in ledger.warnings():
        console.print(f"warning: {warning}", highlight=False)
    return ledger


def load_corpus(settings: SweepSettings) -> Corpus:
    """The corpus of a sweep, refused when it has nothing to choose on."""
    corpus = load_task(
        settings.task,
        settings.data_dir,
        train_from=settings.train_from,
        validation_from=settings.validation_from,
        limit_train=settings.limit_train,
        column=settings.column,
    )
    if not corpus.validation:
        raise ValueError(
            f"{settings.task} has no validation split, and the configuration is chosen on it; hold "
            "some out with --validation-from train:0.1"
        )
    if not corpus.test and settings.test != "none":
        raise ValueError(f"{settings.task} has no test split: say --test none to go without")
    return corpus


def _sweep_backbone(
    settings: SweepSettings, name: str, corpus: Corpus, ledger: Ledger, console: Console
) -> None:
    is_baseline = name in settings.baselines
    loaded = load_backbone(
        name, settings.recipe.compute_dtype, settings.recipe.quantization, settings.device
    )
    if loaded.is_encoder != is_baseline:
        kind = "an encoder: name it with --baselines" if loaded.is_encoder else "a decoder"
        raise ValueError(f"{name} is {kind}, not {'an encoder' if is_baseline else 'a decoder'}")
    source = f"{loaded.weights.name} from {loaded.weights.path}"
    console.print(f"backbone: {source} on {loaded.model.device}", highlight=False, soft_wrap=True)
    for note in (*find_notes(name, loaded), *loaded.notes):
        console.print(f"note: {note}", highlight=False)
    fingerprint = corpus.fingerprint()
    if is_baseline:
        runs = encoder_runs(settings, loaded.weights.name, fingerprint)
    else:
        layers = loaded.model.config.num_hidden_layers
        runs = decoder_runs(settings, loaded.weights.name, layers, fingerprint)
    job = Job(settings, corpus, loaded, runs, ledger, console)
    _train_missing(job)
    if settings.test != "none":
        _score_test(job)


def find_notes(name: str, loaded: LoadedBackbone) -> list[str]:
    """What to say when weights came from another place than the name suggests."""
    if loaded.weights.name.startswith(f"{name}@"):
        return [f"no hub in reach: {name} is taken from {loaded.weights.name.split('@')[1]}"]
    return []


def _train_missing(job: Job) -> None:
    missing = job.ledger.missing(job.runs)
    done = len(job.runs) - len(missing)
    job.console.print(f"{len(job.runs)} runs, {done} already in {job.ledger.path}", highlight=False)
    if not missing:
        return
    train = encode_training_split(job.loaded, job.corpus, job.settings)
    cost = stack_cost(job.loaded, job.settings, train)
    free = free_memory(job.loaded.model.device)
    width = job.settings.fuse or cost.width(free, len(missing))
    job.console.print(
        f"fusing {min(width, len(missing))} runs per forward pass; estimated "
        f"{cost.stack_bytes(width) / 2**30:.1f} GiB of {free / 2**30:.1f} GiB free",
        highlight=False,
    )
    while missing:
        stack = missing[:width]
        try:
            _train_stack(job, stack, train)
        except Exception as error:
            if not is_out_of_memory(error) or width == 1:
                raise
            width = max(1, width // 2)
            job.console.print(f"out of memory: fusing {width} runs instead", highlight=False)
            gc.collect()
            continue
        missing = missing[len(stack) :]


def encode_training_split(
    loaded: LoadedBackbone, corpus: Corpus, settings: SweepSettings
) -> list[EncodedSentence]:
    """Sub-tokens and label ids of the training split for this backbone."""
    encoder = WordEncoder(loaded.tokenizer)
    return encode_split(
        corpus.train, encoder, tag_names(corpus.labels), settings.recipe.max_subtokens
    )


def stack_cost(
    loaded: LoadedBackbone, settings: SweepSettings, train: Sequence[EncodedSentence]
) -> Cost:
    """Estimated cost of the runs on one backbone."""
    tokens = sum(len(sentence.token_ids) for sentence in train)
    steps = Schedule.of(settings.recipe, len(train)).num_steps
    return estimate(loaded, settings.recipe, tokens, len(train), steps)


def _build(job: Job, runs: Sequence[Run]) -> UnmaskedForTokenClassification:
    recipe = job.settings.recipe
    return UnmaskedForTokenClassification(
        job.loaded,
        job.corpus.labels,
        [configuration(job.loaded, run.config) for run in runs],
        LoraSettings.from_recipe(recipe),
        [run.seed for run in runs],
        recipe.head_dropout,
        recipe.max_subtokens,
    )


def _train_stack(job: Job, runs: Sequence[Run], train: Sequence[EncodedSentence]) -> None:
    model = _build(job, runs)
    try:
        trainees = [
            Trainee(run.name, run.seed, run.recipe, train, Progress(run.id)) for run in runs
        ]
        fit(model, trainees, [job.folder(run) for run in runs])
        started = time.monotonic()
        scores = _score_split(job, model, job.corpus.validation)
        seconds = (time.monotonic() - started) / len(runs)
        for index, (run, trainee) in enumerate(zip(runs, trainees, strict=True)):
            model.save_pretrained(job.folder(run), index)
            result = _result(job, run, trainee.progress, scores[index], seconds)
            job.ledger.append_run(result)
            delete_checkpoint(job.folder(run))
    finally:
        model.release()


def _result(job: Job, run: Run, progress: Progress, validation: dict, seconds: float) -> RunResult:
    environment = {**describe_environment(job.loaded), "mask_proof": "every layer agreed"}
    return RunResult(
        run=run,
        scores={"validation": validation},
        curves={"train_loss": progress.train_loss},
        timings={
            "train_seconds": progress.seconds,
            "train_tokens": progress.tokens,
            "tokens_per_second": progress.tokens / max(progress.seconds, 1e-9),
            "validation_seconds": seconds,
            "peak_memory_bytes": peak_memory_bytes(job.loaded.model.device),
        },
        environment=environment,
        status="diverged" if progress.diverged else "finished",
    )


def _score_split(
    job: Job, model: UnmaskedForTokenClassification, sentences: Sequence[Sentence]
) -> list[dict]:
    gold = [sentence.tags for sentence in sentences]
    predicted = predict_tags(model, [sentences] * model.num_runs, job.settings.recipe.max_subtokens)
    return [score(gold, tags, num_truncated_words=cut) for tags, cut in predicted]


def _score_test(job: Job) -> None:
    """Score the test split once for every run that may be scored and has not been."""
    ids = {run.id for run in job.runs}
    results = [result for result in job.ledger.results() if result.run.id in ids]
    tested = _tested_configs(job, results)
    due = [
        result.run
        for result in results
        if result.run.config in tested
        and "test" not in result.scores
        and result.status == "finished"
    ]
    width = job.settings.fuse or 4
    for stack in stacks(due, width):
        model = _build(job, stack)
        try:
            for index, run in enumerate(stack):
                load_adapter(model, job.folder(run), index)
            model.eval()
            for run, scores in zip(stack, _score_split(job, model, job.corpus.test), strict=True):
                job.ledger.append_test(run.id, scores)
        finally:
            model.release()


def _tested_configs(job: Job, results: Sequence[RunResult]) -> set[str]:
    configs = {result.run.config for result in results}
    if job.loaded.is_encoder or job.settings.test == "all":
        return configs
    chosen = choose_configuration(results)
    job.console.print(f"chosen on validation: {chosen}", highlight=False)
    return {chosen} | {code for code in configs if set(code) in ({"0"}, {"1"})}
