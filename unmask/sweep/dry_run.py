"""What a sweep would do: its runs, which are done, and estimates of their cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from unmask.data.sentence import Corpus
from unmask.results.ledger import Ledger
from unmask.results.tables import counted
from unmask.sweep.execute import load_one, open_ledger, runs_on
from unmask.sweep.plan import SweepSettings
from unmask.sweep.train import encode_training_split
from unmask.training.estimate import bytes_in_words, estimate, flops_in_words, free_memory


def describe(settings: SweepSettings, corpus: Corpus) -> Iterator[str]:
    """One line per run, and a line of estimates per backbone."""
    ledger = open_ledger(settings)
    for name in (settings.model, *settings.baselines):
        yield from _describe_backbone(settings, name, corpus, ledger)


def _describe_backbone(
    settings: SweepSettings, name: str, corpus: Corpus, ledger: Ledger
) -> Iterator[str]:
    loaded = load_one(settings, name)
    if settings.search is not None and not loaded.is_encoder:
        # What it proposes depends on scores, so only their number is known.
        layers = loaded.model.config.num_hidden_layers
        bits = settings.search.num_groups or layers
        count = min(settings.search.num_trials, 2**bits)
        yield f"search: {count} of 2^{bits} configurations, proposed on the way; first of all:"
        settings = replace(settings, configs=("0" * bits, "1" * bits))
    runs = runs_on(loaded, settings, corpus)
    missing = {run.id for run in ledger.missing(runs)}
    for run in runs:
        yield f"{run.id}  {'to do' if run.id in missing else 'done '}  {run.name}"
    yield f"{loaded.weights.name}: {len(missing)} of {counted(len(runs), 'run')} to do"
    if not missing:
        return
    train = encode_training_split(loaded, corpus, settings.recipe.max_subtokens)
    cost = estimate(loaded, settings.recipe, train)
    free = free_memory(loaded.model.device)
    width = min(settings.fuse or cost.width(free, len(missing)), len(missing))
    flops = cost.flops_per_run
    yield (
        f"estimated per run: {cost.tokens_per_run:,} tokens, {flops_in_words(flops)} "
        f"({flops_in_words(flops * len(missing))} for all)"
    )
    yield (
        f"estimated memory: {bytes_in_words(cost.backbone_bytes)} for the backbone (loaded now) "
        f"and {bytes_in_words(cost.bytes_of_runs(width))} for {counted(width, 'run')} at a time; "
        f"{bytes_in_words(free)} are free"
    )
