"""Do what is missing of a sweep, backbone by backbone.

Per backbone: train the runs that the ledger lacks; choose the configuration on validation; only
then score the test split, once, for what was chosen and for the baselines. A kill at any moment
costs about a minute of one stack (more where writing checkpoints takes long, see
`unmask.training.fit`): finished runs are in the ledger, the others go on from their checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from rich.console import Console

from unmask.backbones import LoadedBackbone, find_weights, load_backbone
from unmask.data.sentence import Corpus
from unmask.data.tasks import load_task
from unmask.ranks import Ranks
from unmask.recipe import Recipe, told_apart
from unmask.results.ledger import Ledger
from unmask.results.run import Run
from unmask.sweep.agreed_ledger import AgreedLedger
from unmask.sweep.held_out import score_test
from unmask.sweep.job import Job
from unmask.sweep.locks import Claim
from unmask.sweep.outputs import remember_corpus
from unmask.sweep.plan import SweepSettings, decoder_runs, encoder_runs, shared_in_a_stack
from unmask.sweep.train import train_together
from unmask.training.sharding import shard


def execute(settings: SweepSettings, corpus: Corpus, console: Console) -> Ledger:
    """Run one sweep to its end; see `execute_together`."""
    return execute_together([(settings, corpus)], console)


def execute_together(sweeps: Sequence[tuple[SweepSettings, Corpus]], console: Console) -> Ledger:
    """Run sweeps to their end, from wherever an earlier call left them.

    Sweeps of one backbone share its forward passes, also where their tasks, learning rates or
    adapters differ.

    Args:
        sweeps: what to do, with what `load_corpus` gave; all write to one folder.
        console: for notes and progress.

    Raises:
        ValueError, FileNotFoundError: for settings, data or weights that cannot be had.
        RuntimeError: when a layer does not see what its configuration says.
        OSError: when the disk is full; what was finished is in the ledger.
    """
    first, _ = sweeps[0]
    for settings, _ in sweeps:
        for name in (settings.model, *settings.baselines):
            find_weights(name)  # a misspelt baseline is to be known before hours of training
    ledger = open_ledger(first)
    for settings, corpus in sweeps:
        if Ranks.here().is_first:
            remember_corpus(corpus, settings)
    for name, together in _by_backbone(sweeps):
        _execute_on(name, together, ledger, console)
    for warning in ledger.warnings():
        console.print(f"warning: {warning}")
    return ledger


def _by_backbone(
    sweeps: Sequence[tuple[SweepSettings, Corpus]],
) -> list[tuple[str, list[tuple[SweepSettings, Corpus]]]]:
    """Backbones, and the sweeps that can share stacks on each."""
    groups: dict[tuple, tuple[str, list[tuple[SweepSettings, Corpus]]]] = {}
    for settings, corpus in sweeps:
        for name in (settings.model, *settings.baselines):
            is_baseline = name in settings.baselines
            # What is watched after each epoch is the same for all of a stack.
            watches = settings.epoch_scores or settings.recipe.patience is not None
            watched = corpus.fingerprint() if watches else None
            key = (name, is_baseline, settings.device, watched, *shared_in_a_stack(settings.recipe))
            groups.setdefault(key, (name, []))[1].append((settings, corpus))
    return list(groups.values())


def _execute_on(
    name: str,
    sweeps: Sequence[tuple[SweepSettings, Corpus]],
    ledger: Ledger,
    console: Console,
) -> None:
    loaded = load_one(sweeps[0][0], name)
    for note in loaded.notes:
        console.print(f"note: {note}")
    path, device = loaded.weights.path, loaded.model.device
    console.print(f"backbone: {loaded.weights.name} from {path} on {device}")
    jobs = [
        Job(settings, corpus, loaded, runs_on(loaded, settings, corpus), ledger, console, apart)
        for (settings, corpus), apart in zip(sweeps, _told_apart(sweeps), strict=True)
    ]
    _train(jobs)
    for job in jobs:
        if job.settings.test != "none":
            # The test split is scored once, also when this sweep runs twice at a time.
            claim = Claim(job.settings.out / "locks" / "test.lock")
            with claim if Ranks.here().is_first else nullcontext():
                score_test(job)


def _told_apart(sweeps: Sequence[tuple[SweepSettings, Corpus]]) -> list[str]:
    """What their recipes differ in, where several are of one task."""
    recipes: dict[str, list[Recipe]] = {}
    for settings, _ in sweeps:
        recipes.setdefault(settings.task, []).append(settings.recipe)
    words = {task: iter(told_apart(own)) for task, own in recipes.items()}
    return [
        f" ({next(words[settings.task])})" if len(recipes[settings.task]) > 1 else ""
        for settings, _ in sweeps
    ]


def _train(jobs: Sequence[Job]) -> None:
    for job in jobs:
        if job.settings.search is not None and not job.loaded.is_encoder:
            job.runs = known_runs(job)
        refuse_other_weights(job)
    train_together([job for job in jobs if job.settings.search is None or job.loaded.is_encoder])
    for job in jobs:
        if job.settings.search is not None and not job.loaded.is_encoder:
            from unmask.sweep.search import search_configurations

            search_configurations(job, job.settings.search)


def known_runs(job: Job) -> list[Run]:
    """Runs in the ledger that differ from the job's in nothing but configuration and seed."""
    alike = {replace(run, config="", seed=0) for run in job.runs}
    known = (result.run for result in job.ledger.results())
    return [run for run in known if replace(run, config="", seed=0) in alike]


def load_corpus(settings: SweepSettings) -> Corpus:
    """The corpus of a sweep, refused when it has nothing to choose on."""
    corpus = load_task(
        settings.task,
        settings.data_dir,
        train_from=settings.train_from,
        validation_from=settings.validation_from,
        limit_train=settings.limit_train,
        limit_validation=settings.limit_validation,
        column=settings.column,
        repair=settings.repair,
    )
    if not corpus.labels:
        raise ValueError(
            f"{settings.task} has no labelled span, every tag is O: is --column the right one?"
        )
    if not corpus.validation:
        raise ValueError(
            f"{settings.task} has no validation split, and the configuration is chosen on it; hold "
            "some out with --validation-from train:0.1"
        )
    if all(tag == "O" for sentence in corpus.validation for tag in sentence.tags):
        raise ValueError(
            f"the validation split of {settings.task} has no labelled span, so every configuration "
            "would score 0 on it; hold out more with --validation-from"
        )
    if not corpus.test and settings.test != "none":
        raise ValueError(f"{settings.task} has no test split: say --test none to go without")
    return corpus


def open_ledger(settings: SweepSettings) -> Ledger:
    """The ledger of a sweep; neither file nor folder need be there yet.

    Raises:
        ValueError: when the place of the folder is taken by a file.
    """
    for place in (settings.out, *settings.out.parents):
        if place.exists() and not place.is_dir():
            raise ValueError(f"--out {settings.out}: {place} is a file; name a folder")
    return AgreedLedger(settings.out / "ledger.jsonl")


def load_one(settings: SweepSettings, name: str) -> LoadedBackbone:
    """The decoder or a baseline of a sweep.

    Raises:
        ValueError: when an encoder is to be swept, or a decoder to be a baseline.
    """
    recipe = settings.recipe
    spread = settings.strategy is not None and settings.strategy.kind == "fsdp"
    resident = False if spread else None  # written out, 4-bit weights would be spread in vain
    device = "cpu" if spread else settings.device  # it may be larger than the device
    loaded = load_backbone(name, recipe.compute_dtype, recipe.quantization, device, resident)
    if loaded.is_encoder and name not in settings.baselines:
        raise ValueError(
            f"{name} is an encoder, which has no causal mask to drop: name a decoder with --model, "
            f"and compare with this one by --baselines {name}"
        )
    if not loaded.is_encoder and name in settings.baselines:
        raise ValueError(f"{name} is a decoder: --baselines are encoders, --model is the decoder")
    if spread:
        shard(loaded, settings.device)
    return loaded


def runs_on(loaded: LoadedBackbone, settings: SweepSettings, corpus: Corpus) -> list[Run]:
    """Everything that a sweep trains on one backbone."""
    name, fingerprint = loaded.weights.name, corpus.fingerprint()
    if loaded.is_encoder:
        return encoder_runs(settings, name, fingerprint)
    return decoder_runs(settings, name, loaded.model.config.num_hidden_layers, fingerprint)


def refuse_other_weights(job: Job) -> None:
    """A folder's name is all that a run's id knows of local weights, so their digests decide.

    Raises:
        ValueError: when the ledger has results of other weights under this name.
    """
    for result in job.results():
        digest = result.environment.get("weights_digest", job.environment["weights_digest"])
        if digest != job.environment["weights_digest"]:
            raise ValueError(
                f"{job.ledger.path} has results of other weights that are called "
                f"{result.run.backbone} too; choose another --out"
            )
