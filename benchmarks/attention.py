"""Attention within packed sentences against every peer that can express it, in one process.

    python benchmarks/attention.py                                   # everything this machine can
    python benchmarks/attention.py --models mistral-7b --flags half --lengths corpus --tokens 6400

Milliseconds of one layer's attention, rotary embedding included for all, forward, backward and
both, called from Python. On a GPU also without what PyTorch takes to hand backward to a thread of
its own, which a training step pays once and not in every layer; and replayed as CUDA graphs, which
leaves the device's own time. Before a pack is timed, outputs and all gradients of every peer are
compared with the float64 definition; when one disagrees the program ends without a number. Without
a CUDA device only the CPU's ways are timed, and it says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from attention_peers import CUDA_ONLY, PEERS, Attention, Problem
from torch import Tensor
from torch._functorch import config as functorch_config
from workload import draw_workload, read_workload

from unmask.backbones import load_backbone
from unmask.errors import OneLineParser, one_line_errors
from unmask.training.environment import processor

MODELS = {"mistral-7b": (32, 8, 128), "llama2-7b": (32, 32, 128), "smollm2-135m": (9, 3, 64)}
"""Heads, key-value heads and head size."""

TOKENS = (400, 1600, 6400, 32_000)
EQUAL = {"all-8": 8, "all-32": 32, "all-128": 128}
SINGLE = {"1x2048": 2048, "1x8192": 8192}
FLAGS: dict[str, Callable[[int], bool]] = {
    "causal": lambda index: True,
    "open": lambda index: False,
    "half": lambda index: index % 2 == 0,
}
TOLERANCES = {"float32": 5e-6, "float16": 2e-3, "bfloat16": 2.5e-2}
"""Largest error over the largest value."""
MODES = ("forward", "backward", "both")
KINDS = {
    "milliseconds": "",
    "one_thread": "    backward in the same thread",
    "replayed": "    as CUDA graphs",
}
"""Ways to call, and how a row of the table says so; the last two on a GPU only."""
RESULTS = Path(__file__).parent / "results" / "attention.json"


class Pack(NamedTuple):
    """Lengths of sentences under a name."""

    name: str
    lengths: list[int]


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("attention.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check and time pack by pack, print, write.

    Raises:
        RuntimeError: when a peer disagrees with the definition.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = arguments.dtype or ("bfloat16" if device == "cuda" else "float32")
    machine = describe_machine(device)
    peers = [name for name in arguments.peers if device == "cuda" or name not in CUDA_ONLY]
    print(f"{machine['device']}, {dtype}; torch {machine['torch']}, triton {machine['triton']}")
    if device == "cpu":
        print(f"no CUDA device: only what runs on a CPU is timed ({', '.join(peers)})")
    print(f"\n{'':40}milliseconds: {' / '.join(MODES)}")
    print(f"{'model':<14}{'sentences':<12}{'tokens':>7} {'flags':<7}", end="")
    print("".join(f"{name:>28}" for name in peers), flush=True)
    rows = []
    for model in arguments.models:
        for pack in packs(arguments, device):
            for flags in arguments.flags:
                causal = [FLAGS[flags](index) for index in range(len(pack.lengths))]
                problem = Problem(
                    pack.lengths, causal, *MODELS[model], getattr(torch, dtype), device
                )
                labels = {"model": model, "sentences": pack.name, "flags": flags}
                row = {**labels, "tokens": sum(pack.lengths), **compare(problem, peers, dtype)}
                print_row(row, peers)
                rows.append(row)
                write(rows, machine, dtype, arguments)
    print(f"\nwritten to {arguments.output}")


def write(
    rows: list[dict[str, Any]], machine: dict[str, Any], dtype: str, arguments: argparse.Namespace
) -> None:
    """What is there so far: a run that is cut short leaves what it had."""
    settings = {key: value for key, value in vars(arguments).items() if key != "output"}
    settings["data_dir"] = arguments.data_dir and arguments.data_dir.name
    report = {"machine": machine, "dtype": dtype, "settings": settings, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def packs(arguments: argparse.Namespace, device: str) -> list[Pack]:
    """The packs asked for; without a CUDA device, by default only what a CPU does in seconds."""
    sizes = arguments.tokens or (TOKENS if device == "cuda" else TOKENS[:2])
    chosen = []
    for name in arguments.lengths:
        if name in SINGLE:
            if device == "cuda" or arguments.tokens:
                chosen.append(Pack(name, [SINGLE[name]]))
            continue
        for tokens in sizes:
            if name in EQUAL:
                lengths = [EQUAL[name]] * (tokens // EQUAL[name])
            else:
                lengths = corpus_lengths(arguments, tokens)
            chosen.append(Pack(name, lengths))
    return chosen


def corpus_lengths(arguments: argparse.Namespace, tokens: int) -> list[int]:
    """Sentences as long as a corpus has them, the last cut so that they make `tokens`."""
    if arguments.data_dir is None:
        workload = draw_workload(1000, 1, tokens, arguments.seed)
    else:
        loaded = load_backbone(arguments.tokenizer, "float32", device="cpu")
        count = tokens // 5  # sentences of five sub-tokens on average would still suffice
        workload = read_workload(arguments.data_dir, loaded, 1, count, arguments.seed)
    lengths, left = [], tokens
    for sentence in workload.batches[0]:
        lengths.append(min(len(sentence.token_ids), left))
        left -= lengths[-1]
        if not left:
            return lengths
    raise ValueError(f"{arguments.data_dir} is too small for {tokens} tokens: lower --tokens")


def compare(problem: Problem, peers: list[str], dtype: str) -> dict[str, Any]:
    """Errors and times of every peer on one pack, and why a peer cannot do it.

    Raises:
        RuntimeError: when a peer disagrees with the definition, or ours fails.
    """
    torch.compiler.reset()
    # Timing backward alone keeps the graph, which compiled code may only when it gives no saved
    # memory away.
    functorch_config.donated_buffer = False
    tensors = problem.draw()
    attentions: dict[str, Attention] = {}
    errors: dict[str, float] = {}
    refused: dict[str, str] = {}
    for name in peers:
        try:
            attention = PEERS[name](problem)
            errors[name] = largest_error(problem, attention, tensors)
            attentions[name] = attention
        except Exception as error:  # a compiler's and a library's own errors share no base
            if name == "ours":
                raise
            refused[name] = _in_one_line(error)
    for name, error in errors.items():
        if not error <= TOLERANCES[dtype]:
            raise RuntimeError(
                f"{name} differs from the float64 definition by {error:.1e} of the largest value, "
                f"more than {TOLERANCES[dtype]:.0e}; a speed without equal results means nothing, "
                "so none is given"
            )
    times: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in KINDS}
    for name, attention in attentions.items():
        try:
            times["milliseconds"][name] = time_modes(attention, tensors)
            if problem.device == "cuda":
                with torch.autograd.set_multithreading_enabled(False):
                    times["one_thread"][name] = time_modes(attention, tensors)
                times["replayed"][name] = time_replays(attention, tensors)
        except Exception as error:  # as above: a table with a gap says more than none
            if name == "ours":
                raise
            refused[name] = _in_one_line(error)
    return {"errors": errors, **times, "refused": refused}


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def largest_error(problem: Problem, attention: Attention, tensors: list[Tensor]) -> float:
    """Of output and gradients over their largest values, in the first group of heads."""
    group = problem.heads // problem.kv_heads
    query, key, value, grad = tensors
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]
    output = attention(*leaves)
    ours = [output, *torch.autograd.grad(output, leaves, grad)]
    exact = [x[:, :count].double().requires_grad_() for x, count in zip(
        (query, key, value), (group, 1, 1), strict=True
    )]  # fmt: skip
    expected = problem.definition(*exact)
    theirs = [expected, *torch.autograd.grad(expected, exact, grad[:, :group].double())]
    gaps = []
    for actual, right in zip(ours, theirs, strict=True):
        gap = (actual[:, : right.shape[1]].double() - right).abs().max() / right.abs().max()
        gaps.append(gap.item())
    return max(gaps)


def time_replays(attention: Attention, tensors: list[Tensor]) -> dict[str, float]:
    """As `time_modes`, of CUDA graphs; backward is what both take beyond forward.

    A graph of backward alone cannot be recorded: it runs on the stream that forward ran on.
    """
    query, key, value, grad = tensors
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]

    def forward() -> None:
        with torch.no_grad():
            attention(query, key, value)

    def both() -> None:
        torch.autograd.grad(attention(*leaves), leaves, grad)

    times = [_replay_clock(function) for function in (forward, both)]
    return {
        mode: round(time, 4)
        for mode, time in zip(MODES, (times[0], times[1] - times[0], times[1]), strict=True)
    }


def time_modes(attention: Attention, tensors: list[Tensor]) -> dict[str, float]:
    """Median milliseconds of forward without gradients, backward alone, and both."""
    query, key, value, grad = tensors
    leaves = [x.detach().requires_grad_() for x in (query, key, value)]

    def forward() -> None:
        with torch.no_grad():
            attention(query, key, value)

    kept = attention(*leaves)

    def backward() -> None:
        torch.autograd.grad(kept, leaves, grad, retain_graph=True)

    def both() -> None:
        torch.autograd.grad(attention(*leaves), leaves, grad)

    work = dict(zip(MODES, (forward, backward, both), strict=True))
    clock = _cuda_clock if query.is_cuda else _cpu_clock
    return {mode: round(clock(function), 4) for mode, function in work.items()}


def describe_machine(device: str) -> dict[str, Any]:
    """What the numbers were made on."""
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = "not installed"
    on_gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "triton": triton_version,
        "cuda": torch.version.cuda,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def print_row(row: dict[str, Any], peers: list[str]) -> None:
    """One line of the table for people."""
    print(f"{row['model']:<14}{row['sentences']:<12}{row['tokens']:>7} {row['flags']:<7}", end="")
    for kind, label in KINDS.items():
        if label and row[kind]:
            print(f"{label:<41}", end="")
        for name in peers if row[kind] else ():
            times = row[kind].get(name)
            text = " / ".join(f"{times[mode]:.3f}" for mode in MODES) if times else "refused"
            print(f"{text:>28}", end="")
        if row[kind]:
            print(flush=True)
    for name, reason in row["refused"].items():
        print(f"    {name}: {reason}", flush=True)


def _cuda_clock(function: Callable[[], None]) -> float:
    from triton.testing import do_bench

    milliseconds: Any = do_bench(function, warmup=20, rep=60, return_mode="median")
    return milliseconds


def _replay_clock(function: Callable[[], None]) -> float:
    """Of a CUDA graph of the call: the device's own time, without that of launches from Python."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        function()
    return _cuda_clock(graph.replay)


def _cpu_clock(function: Callable[[], None], rounds: int = 5) -> float:
    function()
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="attention.py",
        description="Milliseconds of packed attention against its peers.",
        epilog="Exits with 1, and gives no number, when a peer disagrees with the definition.",
    )
    add = parser.add_argument
    choices = {
        "--models": list(MODELS),
        "--lengths": ["corpus", *EQUAL, *SINGLE],
        "--flags": list(FLAGS),
        "--peers": list(PEERS),
    }
    for flag, names in choices.items():
        add(flag, nargs="+", choices=names, default=names, help="default: all")
    add("--tokens", nargs="+", type=int, help="in a pack (default: 400 1600, on a GPU also more)")
    add("--dtype", choices=list(TOLERANCES), help="default: bfloat16, on a CPU float32")
    add("--data-dir", type=Path, help="a corpus to take lengths from; default: as CoNLL-2003")
    add("--tokenizer", default="smollm2-135m", help="backbone whose tokenizer cuts the corpus")
    add("--seed", type=int, default=0, help="of the lengths drawn")
    add("--output", type=Path, default=RESULTS, help="where to write JSON")
    return parser


if __name__ == "__main__":
    main()
