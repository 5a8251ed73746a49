"""What a run costs when many share one forward pass, beside training them one after the other.

    python benchmarks/sweep.py                                      # the embedded backbone
    python benchmarks/sweep.py --weights smollm2-135m --preset quick --batch-size 4 --steps 3

Ways to train, all with the same sentences, adapters, optimizer and clipping: transformers' own
class with PEFT, padded, one run after the other (with bitsandbytes' NF4 and optimizer where the
preset says so); the same with batches of like length; this project with one run, and with many in
a stack. All take turns, round by round, so that a busy machine slows all of them. Before anything
is timed, outputs, losses and gradients of the first two batches are compared with the stock
model's, and nothing is printed unless they agree.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from contenders import Contender, largest_gap, lora_pair
from workload import Workload, by_length, draw_workload, read_workload

from unmask.backbones import LoadedBackbone, load_backbone
from unmask.config import UnmaskConfig, gray_codes
from unmask.data.alignment import EncodedSentence
from unmask.errors import OneLineParser, one_line_errors
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack
from unmask.recipe import PRESETS, Recipe, load_recipe
from unmask.sweep.memory import MemoryMeter
from unmask.training.checkpoint import Progress
from unmask.training.environment import describe_environment
from unmask.training.estimate import bytes_in_words, estimate
from unmask.training.module import FusedRuns, Trainee
from unmask.training.optimizer import build_optimizer

RESULTS = Path(__file__).parent / "results" / "sweep.json"
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Of the largest value; in bfloat16 both sides round every layer by 2^-9."""
WARM_UP = 1
STOCK = "transformers + PEFT, one after the other"
STOCK_BY_LENGTH = "the same, batches of like length"

Step = Callable[[int], int]
"""Takes micro-batch `index` and an optimizer step; gives the real tokens it saw, all runs."""


@dataclass(frozen=True)
class Row:
    """One way to train, measured."""

    name: str
    runs: int
    seconds_per_run_and_step: list[float]
    """Median over the steps of a round, round by round."""
    cpu_seconds_per_run_and_step: list[float]
    """Of the process, likewise: what a busy machine leaves nearly as it is."""
    tokens_per_second: list[float]
    """Real tokens of all runs, likewise, by the clock."""
    memory_bytes: int | None
    """The peak of the first round above what was in use before, backbone included there."""
    estimated_bytes: int | None
    """What a sweep would print before it starts."""


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("sweep.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check, time, print, write JSON and a plot.

    Raises:
        RuntimeError: when ours and the stock model disagree; nothing is printed or written then.
    """
    torch.set_num_threads(arguments.threads)
    recipe = load_recipe(arguments.preset, batch_size=arguments.batch_size, accumulation=1)
    loaded = load_backbone(
        arguments.weights, recipe.compute_dtype, recipe.quantization, arguments.device
    )
    workload = _workload(loaded, recipe, arguments)
    load_before = os.getloadavg()
    gap = _checked(loaded, workload, recipe)
    rounds = [_measured(loaded, workload, recipe, arguments) for _ in range(arguments.rounds)]
    rows = [_joined(same) for same in zip(*rounds, strict=True)]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(loaded),
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "settings": _settings(arguments, recipe),
        "workload": workload.describe(),
        "gap": gap,
        "rows": [asdict(row) for row in rows],
    }
    print_table(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    plot(report, arguments.output.with_suffix(".png"))
    print(f"\nwritten to {arguments.output} and {arguments.output.with_suffix('.png')}")


def _checked(loaded: LoadedBackbone, workload: Workload, recipe: Recipe) -> float:
    pair = lora_pair(loaded, workload.labels, seed=0, lora=LoraSettings.from_recipe(recipe))
    gap = largest_gap(pair, workload.batches[:2])
    limit = TOLERANCES[recipe.compute_dtype]
    if not gap <= limit:
        raise RuntimeError(
            f"ours and the stock model differ by {gap:.1e} of the largest value, more than "
            f"{limit:.0e}; a speed without equal results means nothing, so none is given"
        )
    return gap


def _measured(
    loaded: LoadedBackbone, workload: Workload, recipe: Recipe, arguments: argparse.Namespace
) -> list[Row]:
    rows = []
    for name, batches in (
        (STOCK, workload.batches),
        (STOCK_BY_LENGTH, by_length(workload, recipe.batch_size)),
    ):
        meter = _fresh_meter(loaded)
        pair = lora_pair(loaded, workload.labels, seed=0, lora=LoraSettings.from_recipe(recipe))
        step = _stock_step(pair.padded, batches, recipe)
        rows.append(_timed(name, 1, step, arguments.steps, meter, None))
        del pair, step
    sentences = [sentence for batch in workload.batches for sentence in batch]
    cost = estimate(loaded, recipe, sentences)
    for width in arguments.widths:
        meter = _fresh_meter(loaded)
        model = _stack(loaded, workload, recipe, width)
        step = _fused_step(model, sentences, recipe)
        name = "unmask, one run" if width == 1 else f"unmask, {width} runs fused"
        rows.append(_timed(name, width, step, arguments.steps, meter, cost.bytes_of_runs(width)))
        model.release()
        del model, step
    return rows


def _timed(
    name: str, runs: int, step: Step, num_steps: int, meter: MemoryMeter, estimated: int | None
) -> Row:
    seconds, cpu_seconds, rates = [], [], []
    for index in range(WARM_UP + num_steps):
        started, cpu_started = time.perf_counter(), time.process_time()
        tokens = step(index)
        if meter.device.type == "cuda":
            torch.cuda.synchronize(meter.device)
        if index >= WARM_UP:
            seconds.append(time.perf_counter() - started)
            cpu_seconds.append(time.process_time() - cpu_started)
            rates.append(tokens / seconds[-1])
    middle = statistics.median
    per_run, cpu_per_run = [middle(seconds) / runs], [middle(cpu_seconds) / runs]
    return Row(name, runs, per_run, cpu_per_run, [middle(rates)], meter.peak(), estimated)


def _joined(rounds: Sequence[Row]) -> Row:
    """One way to train, measured in several rounds."""
    return replace(
        rounds[0],
        seconds_per_run_and_step=[one.seconds_per_run_and_step[0] for one in rounds],
        cpu_seconds_per_run_and_step=[one.cpu_seconds_per_run_and_step[0] for one in rounds],
        tokens_per_second=[one.tokens_per_second[0] for one in rounds],
    )


def _stock_step(
    contender: Contender, batches: Sequence[Sequence[EncodedSentence]], recipe: Recipe
) -> Step:
    contender.train(True)
    trained: list[torch.nn.Parameter] = list(contender.trained)  # pyright: ignore[reportAttributeAccessIssue]
    optimizer = build_optimizer(trained, recipe)

    def step(index: int) -> int:
        batch = batches[index % len(batches)]
        _, *gradients = contender.step(batch)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
        optimizer.step()
        return sum(len(sentence.token_ids) for sentence in batch)

    return step


def _fused_step(
    model: UnmaskedForTokenClassification, sentences: Sequence[EncodedSentence], recipe: Recipe
) -> Step:
    trainees = [
        Trainee(str(run), seed, recipe, sentences, Progress(str(run)))
        for run, seed in enumerate(model.seeds)
    ]
    module = FusedRuns(model, trainees)
    model.train()
    if recipe.gradient_checkpointing:
        model.backbone.activation_checkpointing_enable(
            {"use_reentrant": False, "preserve_rng_state": False}
        )

    def step(index: int) -> int:
        batch = pack([trainee.batch(index) for trainee in trainees], model.causal)
        module.training_step(module.passes.fitted(batch), index)
        return batch.num_tokens

    return step


def _stack(
    loaded: LoadedBackbone, workload: Workload, recipe: Recipe, width: int
) -> UnmaskedForTokenClassification:
    """As a sweep makes it: all configurations of a seed, then the next seed."""
    codes = gray_codes(4)
    layers = loaded.model.config.num_hidden_layers
    return UnmaskedForTokenClassification(
        loaded,
        workload.labels,
        [UnmaskConfig.from_code(codes[run % len(codes)], layers) for run in range(width)],
        LoraSettings.from_recipe(recipe),
        [120 + run // len(codes) for run in range(width)],
        recipe.head_dropout,
    )


def _fresh_meter(loaded: LoadedBackbone) -> MemoryMeter:
    """Begins at what is really in use: memory that was given back must not hide what is taken."""
    gc.collect()
    name = ctypes.util.find_library("c")
    trim = getattr(ctypes.CDLL(name), "malloc_trim", None) if name else None
    if trim is not None:
        trim(0)
    if loaded.model.device.type == "cuda":
        torch.cuda.empty_cache()
    return MemoryMeter(loaded.model.device)


def _workload(loaded: LoadedBackbone, recipe: Recipe, arguments: argparse.Namespace) -> Workload:
    sizes = arguments.batches, recipe.batch_size, 0
    if arguments.data_dir is None:
        return draw_workload(loaded.model.config.vocab_size, *sizes)
    return read_workload(arguments.data_dir, loaded, *sizes)


def _settings(arguments: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    kept = {name: value for name, value in vars(arguments).items() if name != "output"}
    folder = arguments.data_dir
    return {**kept, "data_dir": folder and folder.name, "recipe": recipe.to_dict()}


def print_table(report: dict[str, Any]) -> None:
    """The report for people."""
    environment, settings, workload = (
        report[name] for name in ("environment", "settings", "workload")
    )
    print(
        f"{environment['weights']}, preset {settings['preset']}, on {environment['device']}, "
        f"{report['cores']} cores, {environment['threads']} threads; torch {environment['torch']}, "
        f"transformers {environment['transformers']}, peft {environment['peft']}"
    )
    print(
        f"batches of {settings['batch_size']} sentences, {workload['tokens_a_sentence']} tokens "
        f"each; padded batches have {workload['padding']} places a token; outputs, losses and "
        f"gradients agree to {report['gap']:.0e}\n"
    )
    heads = ("ms per run", "CPU ms", "real", "times stock by CPU", "memory", "estimated")
    sizes = (12, 9, 10, 23, 11, 12)
    print(" " * 42 + "".join(f"{head:>{size}}" for head, size in zip(heads, sizes, strict=True)))
    print(f"{'':<42}{'and step':>12}{'':>9}{'tokens/s':>10}{'median (range)':>23}")
    middle = statistics.median
    stock = report["rows"][0]["cpu_seconds_per_run_and_step"]
    for row in report["rows"]:
        cpu_seconds = row["cpu_seconds_per_run_and_step"]
        ratios = [theirs / ours for theirs, ours in zip(stock, cpu_seconds, strict=True)]
        spread = f"{middle(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        memory, estimated = (
            "-" if size is None else bytes_in_words(size)
            for size in (row["memory_bytes"], row["estimated_bytes"])
        )
        print(
            f"{row['name']:<42}{middle(row['seconds_per_run_and_step']) * 1e3:>12.1f}"
            f"{middle(cpu_seconds) * 1e3:>9.1f}"
            f"{middle(row['tokens_per_second']):>10.0f}{spread:>23}{memory:>11}{estimated:>12}"
        )


def plot(report: dict[str, Any], path: Path) -> None:
    """Time of a run and memory of a stack against the number of runs in it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    times, memory = figure.subplots(1, 2)
    ours = [row for row in report["rows"] if row["estimated_bytes"] is not None]
    widths = [row["runs"] for row in ours]
    milliseconds = [
        statistics.median(row["cpu_seconds_per_run_and_step"]) * 1e3 for row in report["rows"]
    ]
    times.plot(widths, milliseconds[2:], "o-", label="unmask")
    for row, value, style in zip(report["rows"], milliseconds, ("--", ":"), strict=False):
        times.axhline(value, linestyle=style, color="gray", label=row["name"])
    times.set_ylabel("CPU ms per run and step")
    memory.plot(widths, [(row["memory_bytes"] or 0) / 2**30 for row in ours], "o-", label="peak")
    memory.plot(widths, [row["estimated_bytes"] / 2**30 for row in ours], "x:", label="estimated")
    memory.set_ylabel("GiB beside the backbone")
    for axes in (times, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths, [str(width) for width in widths])
        axes.set_xlabel("runs in one forward pass")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize="small")
    figure.suptitle(f"{report['environment']['weights']} on {report['environment']['device']}")
    figure.savefig(path, dpi=150)


def _widths(text: str) -> list[int]:
    try:
        widths = [int(width) for width in text.split(",")]
    except ValueError:
        widths = []
    if not widths or min(widths) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers of runs such as 1,2,4, got {text!r}")
    return widths


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="sweep.py", description="What a run costs when many share one forward pass."
    )
    add = parser.add_argument
    add("--weights", metavar="NAME", default="tiny", help="a decoder (default: %(default)s)")
    add("--preset", default="tiny", choices=tuple(PRESETS), help="recipe (default: %(default)s)")
    add(
        "--widths",
        metavar="N,N",
        type=_widths,
        default=[1, 2, 4, 8, 16, 32, 80],
        help="runs in a stack, in turn (default: 1,2,4,8,16,32,80)",
    )
    add("--data-dir", metavar="DIR", type=Path, help="a corpus; default: drawn as CoNLL-2003's")
    add("--batch-size", metavar="N", type=int, default=16, help="sentences (default: 16)")
    add("--batches", metavar="N", type=int, default=32, help="different ones (default: 32)")
    add("--steps", metavar="N", type=int, default=4, help="timed in a round (default: 4)")
    add("--rounds", metavar="N", type=int, default=3, help="through all ways (default: 3)")
    add("--threads", metavar="N", type=int, default=2, help="of PyTorch (default: 2)")
    add("--device", metavar="NAME", help="default: a CUDA device where there is one")
    add("--output", metavar="FILE", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    return parser


if __name__ == "__main__":
    main()
