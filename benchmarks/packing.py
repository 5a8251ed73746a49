"""How much faster is a pack than a padded rectangle? Real tokens a second, side by side.

transformers' own model on padded batches against `unmask` on packs of the same sentences, same
weights, float32, in one process. The two take turns batch by batch, so that a busy machine slows
both, and nothing is printed unless they agree on outputs, losses and gradients to 1e-4.

    python benchmarks/packing.py                            # SmolLM2-135M's shape, random weights
    python benchmarks/packing.py --weights smollm2-135m     # its packaged weights
    python benchmarks/packing.py --weights tiny --output benchmarks/results/packing_tiny.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import PAIRS, Contender, Pair, Sentences, largest_gap
from transformers import AutoModel, LlamaConfig
from workload import Workload, draw_workload, read_workload

from unmask.backbones import LoadedBackbone, Weights, load_backbone
from unmask.errors import OneLineParser, one_line_errors
from unmask.recipe import PAPER
from unmask.training.environment import describe_environment

SMOLLM2_135M = LlamaConfig(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocab_size=49152,
)
RANDOM = "random"
TOLERANCE = 1e-4
RESULTS = Path(__file__).parent / "results" / "packing.json"

MODES: dict[str, tuple[bool, Callable[[Contender, Sentences], object]]] = {
    "forward": (False, lambda contender, sentences: contender.forward(sentences)),
    "forward+backward": (True, lambda contender, sentences: contender.step(sentences)),
}
"""Whether dropout is on, and what to time."""


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("packing.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check, time, print, write.

    Raises:
        RuntimeError: when the two sides disagree; nothing is printed or written then.
    """
    torch.set_num_threads(arguments.threads)
    loaded = _load(arguments.weights, arguments.seed)
    workload = _workload(loaded, arguments)
    load_before = os.getloadavg()
    measurements = []
    for variant in arguments.variants:
        pair = PAIRS[variant](loaded, workload.labels, arguments.seed)
        gap = largest_gap(pair, workload.batches)
        if not gap <= TOLERANCE:
            raise RuntimeError(
                f"{variant}: packed and padded differ by {gap:.1e} of the largest value, more than "
                f"{TOLERANCE:.0e}; a speed without equal results means nothing, so none is given"
            )
        for mode in MODES:
            timing = measure(pair, workload, mode, arguments.rounds)
            measurements.append({"variant": variant, "mode": mode, "gap": gap, **timing})
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(loaded),
        "cores": os.cpu_count(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", "default"),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "settings": _settings(arguments),
        "workload": workload.describe(),
        "measurements": measurements,
    }
    print_table(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.output}")


def measure(pair: Pair, workload: Workload, mode: str, rounds: int) -> dict[str, Any]:
    """Medians over rounds; a round is every batch once on either side, taking turns to begin."""
    training, work = MODES[mode]
    for contender in pair:
        contender.train(training)
    seconds = [[0.0] * rounds for _ in pair]
    for current in range(rounds):
        for turn, sentences in enumerate(workload.batches):
            order = (0, 1) if (current + turn) % 2 else (1, 0)
            for side in order:
                started = time.perf_counter()
                work(pair[side], sentences)
                seconds[side][current] += time.perf_counter() - started
    packed, padded = seconds
    ratios = [theirs / ours for ours, theirs in zip(packed, padded, strict=True)]
    return {
        "packed_tokens_per_second": round(workload.num_tokens / median(packed), 1),
        "padded_tokens_per_second": round(workload.num_tokens / median(padded), 1),
        "ratio": round(median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "packed_seconds": [round(value, 4) for value in packed],
        "padded_seconds": [round(value, 4) for value in padded],
    }


def print_table(report: dict[str, Any]) -> None:
    """The report for people."""
    environment, workload = report["environment"], report["workload"]
    print(
        f"{environment['weights']}, float32 on {environment['device']}, {report['cores']} cores, "
        f"{environment['threads']} threads; torch {environment['torch']}, "
        f"transformers {environment['transformers']}, peft {environment['peft']}"
    )
    print(
        f"{workload['sentences']} sentences in batches of {report['settings']['batch_size']}: "
        f"{workload['tokens_a_sentence']} tokens a sentence, the longest "
        f"{workload['longest_in_tokens']}; padded batches have {workload['padding']} places a token"
    )
    print("\n               real tokens a second          ratio")
    print("variant mode               padded   packed   median (range)     agree to")
    for row in report["measurements"]:
        low, high = row["ratio_range"]
        print(
            f"{row['variant']:<8}{row['mode']:<17}"
            f"{row['padded_tokens_per_second']:>8.0f} {row['packed_tokens_per_second']:>8.0f}   "
            f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})   {row['gap']:.0e}"
        )


def _load(name: str, seed: int) -> LoadedBackbone:
    if name != RANDOM:
        loaded = load_backbone(name, "float32", device="cpu")
        if loaded.is_encoder:
            raise ValueError(f"{name} is an encoder, which has no causal mask: name a decoder")
        return loaded
    torch.manual_seed(seed)
    model = AutoModel.from_config(SMOLLM2_135M, dtype=torch.float32)
    model.requires_grad_(False)
    # Drawn sentences need no tokenizer, but a loaded backbone has one.
    tokenizer = load_backbone("tiny", "float32", device="cpu").tokenizer
    weights = Weights(name="random weights in the shape of SmolLM2-135M", path="")
    return LoadedBackbone(weights, name, model.eval(), tokenizer, False, None, torch.float32)


def _workload(loaded: LoadedBackbone, arguments: argparse.Namespace) -> Workload:
    sizes = arguments.batches, arguments.batch_size, arguments.seed
    if arguments.data_dir is None:
        return draw_workload(loaded.model.config.vocab_size, *sizes)
    if arguments.weights == RANDOM:
        raise ValueError(
            "--data-dir needs a tokenizer, which random weights do not have: "
            "add --weights smollm2-135m"
        )
    return read_workload(arguments.data_dir, loaded, *sizes)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    folder = arguments.data_dir
    lora = {name: getattr(PAPER, f"lora_{name}") for name in ("rank", "targets", "dropout")}
    return {**settings, "data_dir": folder and folder.name, "lora": lora}


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="packing.py",
        description="Real tokens a second of packed against padded sentences, same weights.",
        epilog="Exits with 1, and prints no speed, when the two sides disagree.",
    )
    add = parser.add_argument
    add(
        "--weights",
        metavar="NAME",
        default=RANDOM,
        help=f"{RANDOM}: the shape of SmolLM2-135M (default); or a decoder by short name, hub id "
        "or folder, such as smollm2-135m or tiny",
    )
    add(
        "--data-dir",
        metavar="DIR",
        type=Path,
        help="a corpus in any format that unmask reads; without it sentences are drawn with the "
        "lengths of CoNLL-2003",
    )
    add(
        "--variants",
        nargs="+",
        choices=list(PAIRS),
        default=list(PAIRS),
        help="frozen: the bare backbone; lora: with adapters and head (default: both)",
    )
    add(
        "--output",
        metavar="FILE",
        type=Path,
        default=RESULTS,
        help="where to write JSON (default benchmarks/results/packing.json)",
    )
    counts = {
        "--batch-size": (PAPER.batch_size, "sentences in a batch"),
        "--batches": (4, "different batches in a round"),
        "--rounds": (5, "rounds that the median is taken of"),
        "--threads": (2, "threads that PyTorch computes with"),
    }
    for flag, (default, meaning) in counts.items():
        text = f"{meaning} (default {default})"
        add(flag, metavar="N", type=_positive, default=default, help=text)
    add("--seed", metavar="N", type=int, default=0, help="of sentences and weights (default 0)")
    return parser


if __name__ == "__main__":
    main()
