"""Tokens a second of pre-training the 68M pair from nothing, at the paper's sizes.

    python benchmarks/pretraining.py                   # on a GPU: encoder and decoder, bfloat16,
                                                       # compiled and not
    python benchmarks/pretraining.py --small           # the shape that a CPU can do

Runs the command's own loop (`unmask.scale.pretrain`) over random tokens in chunks of 512, with a
vocabulary of the size that the paper's has: speed depends on neither text nor words. The first
steps are not counted. Losses are read after every step, more often than the command does on a GPU,
so that every step can be timed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attention import describe_machine
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from unmask.errors import OneLineParser, one_line_errors
from unmask.scale.language_models import build
from unmask.scale.pretrain import pretrain
from unmask.scale.settings import KINDS, PRETRAINING_PRESETS, Pretraining
from unmask.scale.text import SPECIAL_TOKENS
from unmask.training.checkpoint import Progress
from unmask.training.environment import peak_memory_bytes

WARM_UP = 2
RESULTS = Path(__file__).parent / "results" / "pretraining.json"


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("pretraining.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Time, print, write."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = PRETRAINING_PRESETS["small" if arguments.small else "paper"]
    steps = WARM_UP + arguments.steps + 1
    recipe = replace(settings.recipe, epochs=1)
    settings = replace(settings, recipe=recipe, checkpoints_per_epoch=1)
    tokenizer = words(settings.vocab_size)
    both = (False, True) if device == "cuda" else (False,)
    ways = both if arguments.compile is None else (arguments.compile,)
    print(
        f"{'':<10}{'compiled':<10}{'parameters':>14}{'tokens/s':>12}{'range':>24}{'peak GiB':>10}"
    )
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "settings": settings.to_dict(),
        "unit": "tokens a second",
        "rows": (rows := []),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    for kind, compiled in itertools.product(arguments.kinds, ways):
        row = time_steps(kind, settings, tokenizer, steps, device, compiled)
        spread = f"{row['slowest']:,.0f} to {row['fastest']:,.0f}"
        print(
            f"{kind:<10}{'yes' if compiled else 'no':<10}{row['parameters']:>14,}"
            f"{row['median']:>12,.0f}{spread:>24}{row['peak_memory_gib']:>10.2f}",
            flush=True,
        )
        rows.append(row)
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.output}")


def words(vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer with RoBERTa's special tokens and as many made-up words as there is room for."""
    names = list(SPECIAL_TOKENS.values())
    names += [f"w{index}" for index in range(vocab_size - len(names))]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL_TOKENS["unk_token"]))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL_TOKENS)


def time_steps(
    kind: str,
    settings: Pretraining,
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    device: str,
    compiled: bool,
) -> dict[str, Any]:
    """Rates of optimizer steps, each a window of micro-batches."""
    recipe = settings.recipe
    shape = (steps * recipe.batch_size * recipe.accumulation, recipe.max_subtokens)
    chunks = np.random.default_rng(0).integers(
        len(SPECIAL_TOKENS), len(tokenizer), shape, dtype=np.uint16
    )
    ends: list[float] = []
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()

    def note(progress: Progress, total: int) -> None:
        # The loop has read the loss, so the device is done.
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            kind,
            settings,
            chunks,
            tokenizer,
            Path(folder),
            "benchmark",
            device,
            note,
            read_seconds=0.0,
            compiled=compiled,
        )
    tokens = recipe.batch_size * recipe.accumulation * recipe.max_subtokens
    rates = [tokens / (end - start) for start, end in itertools.pairwise(ends)]
    timed = rates[WARM_UP - 1 : -1]  # the last step writes a checkpoint
    return {
        "kind": kind,
        "compiled": compiled,
        "parameters": sum(p.numel() for p in build(kind, settings, tokenizer).parameters()),
        "median": statistics.median(timed),
        "slowest": min(timed),
        "fastest": max(timed),
        "peak_memory_gib": peak_memory_bytes(torch.device(device)) / 2**30,
    }


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="pretraining.py", description="Tokens a second of pre-training from nothing."
    )
    add = parser.add_argument
    add("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="default: both")
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="torch.compile only, or not at all (default: both on a GPU, not on a CPU)",
    )
    add("--small", action="store_true", help="the small shape and sizes")
    add("--steps", type=int, default=6, help="optimizer steps that are timed (default: 6)")
    add("--output", type=Path, default=RESULTS, help="where to write JSON")
    return parser


if __name__ == "__main__":
    main()
