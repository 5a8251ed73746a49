"""What a sweep would do: its runs, which are done, and estimates of their cost."""

from __future__ import annotations

from unmask.backbones import load_backbone
from unmask.results.ledger import Ledger
from unmask.sweep.estimate import free_memory
from unmask.sweep.execute import encode_training_split, load_corpus, stack_cost
from unmask.sweep.plan import SweepSettings, decoder_runs, encoder_runs


def describe(settings: SweepSettings) -> str:
    """A text with one line per run and one paragraph of estimates per backbone."""
    corpus = load_corpus(settings)
    ledger = Ledger(settings.out / "ledger.jsonl")
    lines = [*(f"note: {note}" for note in corpus.notes)]
    for name in (settings.model, *settings.baselines):
        recipe = settings.recipe
        loaded = load_backbone(name, recipe.compute_dtype, recipe.quantization, settings.device)
        label, fingerprint = loaded.weights.name, corpus.fingerprint()
        if loaded.is_encoder:
            runs = encoder_runs(settings, label, fingerprint)
        else:
            num_layers = loaded.model.config.num_hidden_layers
            runs = decoder_runs(settings, label, num_layers, fingerprint)
        missing = {run.id for run in ledger.missing(runs)}
        lines += [
            f"{run.id}  {'to do' if run.id in missing else 'done '}  {run.name}" for run in runs
        ]
        train = encode_training_split(loaded, corpus, settings)
        cost = stack_cost(loaded, settings, train)
        free = free_memory(loaded.model.device)
        width = settings.fuse or cost.width(free, max(len(missing), 1))
        flops = cost.tokens_per_run * cost.flops_per_token
        lines.append(
            f"{label}: {len(missing)} of {len(runs)} runs to do; estimated per run "
            f"{cost.tokens_per_run:,} tokens and {flops / 1e12:,.1f} TFLOP; fusing {width} at a "
            f"time needs about {cost.stack_bytes(width) / 2**30:.1f} GiB, "
            f"{free / 2**30:.1f} GiB are free"
        )
    return "\n".join(lines) + "\n"
