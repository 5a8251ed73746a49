"""Everything that a CUDA device is needed for, in one command and a given time.

    python benchmarks/gpu_session.py [--minutes 8] [--output-dir benchmarks/results/gpu]

Stages, each in a process of its own, in this order:

    check           every kernel against its float64 definition at the sizes that are timed after;
                    beside it steps of both shapes compile what they need
    step_mistral    benchmarks/step.py at Mistral-7B's shape
    step_smollm2    the same at SmolLM2-135M's, up to 80 fused runs
    attention       benchmarks/attention.py: Mistral-7B's heads, a corpus' sentences and 1 x 8192
    pretraining     benchmarks/pretraining.py
    attention_more  other lengths, flags and heads
    tests           the tests marked gpu, as many as the time allows

A stage gets the time that is left and no more; what it had written by then stays. Nothing is timed
when a kernel is wrong. The JSON files of the stages and `session.json`, which says how each ended
and on what machine, lie in the output folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from attention import TOLERANCES, corpus_lengths, describe_machine, largest_error
from attention_peers import Problem, ours
from torch import Tensor

from unmask import kernels
from unmask.errors import OneLineParser, one_line_errors
from unmask.kernels import lora_reference, nf4_reference, rows_reference
from unmask.kernels.dropout import Dropout

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "gpu"
HEADS, HIDDEN, INTERMEDIATE, RANK = (32, 8, 128), 4096, 14_336, 64
TOKENS, RUNS = 6400, 16
ENDING = 5
"""Seconds kept for writing the last file."""


class Stage(NamedTuple):
    """A command, and the most of the whole time that it may take."""

    name: str
    command: list[str]
    share: float


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("gpu_session.py"):
        if arguments.check_only:
            check(arguments)
        else:
            run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """The stages one after the other.

    Raises:
        RuntimeError: without a CUDA device, or when a kernel is wrong.
    """
    _require(arguments.device)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + 60 * arguments.minutes - ENDING
    report: dict[str, Any] = {"machine": describe_machine(arguments.device), "stages": []}
    beside = [] if arguments.stages else compilations(arguments.output_dir)
    for stage in stages(arguments):
        allowed = min(deadline - time.monotonic(), stage.share * 60 * arguments.minutes)
        outcome = run_stage(stage, allowed, arguments.output_dir)
        report["stages"].append(outcome)
        _write(arguments.output_dir / "session.json", report)
        print(f"{stage.name:<20} {outcome['ended']:<14} {outcome['seconds']:>6.1f} s", flush=True)
        if stage.name == "check" and outcome["ended"] != "done":
            for process in beside:
                process.kill()
            raise RuntimeError(
                f"the check of the kernels {outcome['ended']}, so nothing is timed: see "
                f"{arguments.output_dir / 'check.log'}"
            )
        if stage.name == "check":
            for process in beside:
                process.wait(timeout=max(deadline - time.monotonic(), 1))


def compilations(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Steps of both shapes, side by side: on an empty cache each compiles for most of a minute."""
    started = []
    for shape, quantization in (("mistral-7b", "nf4"), ("smollm2-135m", "none")):
        command = [sys.executable, str(HERE / "step.py"), "--shape", shape, "--steps", "1"]
        command += ["--quantization", quantization, "--runs", "1", "--output", os.devnull]
        with (folder / f"compile_{shape}.log").open("w", encoding="utf-8") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=HERE.parent))
    return started


def stages(arguments: argparse.Namespace) -> list[Stage]:
    """What is done, most needed first."""
    folder, python = arguments.output_dir, sys.executable

    def benchmark(name: str, script: str, share: float, *flags: str) -> Stage:
        output = str(folder / f"{name}.json")
        return Stage(name, [python, str(HERE / script), *flags, "--output", output], share)

    again = [python, __file__, "--check-only", "--device", arguments.device]
    heads = ("--models", "mistral-7b", "--tokens", "6400", "--flags", "half", "--lengths")
    others = ("--models", "mistral-7b", "smollm2-135m", "--tokens", "6400", "--lengths", "corpus")
    mistral = ("--shape", "mistral-7b", "--checkpointing", "--runs", "1", "4", "16")
    smollm2 = ("--quantization", "none", "--by-length", "--runs", "1", "2", "4", "8", "16", "80")
    tests = [python, "-m", "pytest", "-q", "-m", "gpu and not slow", "tests"]
    all_of_them = [
        Stage("check", [*again, "--output-dir", str(folder)], 0.25),
        benchmark("step_mistral", "step.py", 0.35, *mistral),
        benchmark("step_smollm2", "step.py", 0.3, *smollm2),
        benchmark("attention", "attention.py", 0.3, *heads, "corpus", "1x8192"),
        benchmark("pretraining", "pretraining.py", 0.3),
        benchmark("attention_more", "attention.py", 0.3, *others),
        Stage("tests", tests, 1.0),
    ]
    return [stage for stage in all_of_them if stage.name in (arguments.stages or [stage.name])]


def run_stage(stage: Stage, seconds: float, folder: Path) -> dict[str, Any]:
    """How one stage ended; its output goes to a log beside the results."""
    started = time.monotonic()
    ended = "had no time"
    if seconds > 1:
        with (folder / f"{stage.name}.log").open("w", encoding="utf-8") as log:
            try:
                done = subprocess.run(
                    stage.command, stdout=log, stderr=subprocess.STDOUT, timeout=seconds,
                    cwd=HERE.parent, check=False,
                )  # fmt: skip
                ended = "done" if done.returncode == 0 else f"failed ({done.returncode})"
            except subprocess.TimeoutExpired:
                ended = "ran out of time"
    return {
        "name": stage.name,
        "command": " ".join(stage.command[1:]),
        "ended": ended,
        "seconds": round(time.monotonic() - started, 1),
    }


def check(arguments: argparse.Namespace) -> None:
    """Errors of every kernel over the largest right value, written and compared with the caps.

    Raises:
        RuntimeError: when one is above its cap.
    """
    device = arguments.device
    _require(device)
    errors: dict[str, dict[str, float]] = {}
    for dtype in arguments.dtypes:
        kind = getattr(torch, dtype)
        errors[dtype] = {name: find(kind, device, arguments) for name, find in CHECKS.items()}
        print(dtype, {name: f"{error:.1e}" for name, error in errors[dtype].items()}, flush=True)
    report = {"machine": describe_machine(device), "errors": errors, "caps": TOLERANCES}
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    _write(arguments.output_dir / "check.json", report)
    wrong = [
        f"{name} in {dtype} is off by {error:.1e}, cap {TOLERANCES[dtype]:.0e}"
        for dtype, found in errors.items()
        for name, error in found.items()
        if not error <= TOLERANCES[dtype]
    ]
    if wrong:
        raise RuntimeError("; ".join(wrong))


def attention_error(dtype: torch.dtype, device: str, arguments: argparse.Namespace) -> float:
    """Packed sentences, half of them causal, rotary embedding included."""
    lengths = corpus_lengths(arguments, arguments.tokens)
    causal = [index % 2 == 0 for index in range(len(lengths))]
    problem = Problem(lengths, causal, *HEADS, dtype, device)
    return largest_error(problem, ours(problem), problem.draw())


def lora_error(dtype: torch.dtype, device: str, arguments: argparse.Namespace) -> float:
    """Adapters of sixteen runs with dropout, one of them without a token."""
    share = arguments.tokens // RUNS
    counts = [share + run - RUNS // 2 for run in range(RUNS - 1)] + [0]
    offsets = torch.tensor([0, *counts]).cumsum(0).int()
    tokens = int(offsets[-1])
    shapes = [
        (tokens, HIDDEN), (tokens, HIDDEN), (RUNS, RANK, HIDDEN), (RUNS, HIDDEN, RANK)
    ]  # fmt: skip
    leaves = _draw(shapes, dtype, device)
    dropout = Dropout(0.1, tuple(range(RUNS)))

    def public(base: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return kernels.grouped_lora(base, x, a, b, offsets, 0.5, dropout)

    def definition(base: Tensor, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return lora_reference.grouped_lora(base, x, a, b, offsets, 0.5, dropout)

    return _largest_gap(public, definition, leaves)


def norm_error(dtype: torch.dtype, device: str, arguments: argparse.Namespace) -> float:
    """Norms of hidden states; the weight is frozen."""
    (x,) = _draw([(arguments.tokens, HIDDEN)], dtype, device)
    weight = torch.rand(HIDDEN, device=device).to(dtype)
    return _largest_gap(
        lambda x: kernels.rms_norm(x, weight, 1e-5),
        lambda x: _precise_norm(x, weight.double()),
        [x],
    )


def _precise_norm(x: Tensor, weight: Tensor) -> Tensor:
    """In float64, which the stock formula rounds to float32 on its way."""
    return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def swiglu_error(dtype: torch.dtype, device: str, arguments: argparse.Namespace) -> float:
    """The gated activation."""
    leaves = _draw([(arguments.tokens, INTERMEDIATE)] * 2, dtype, device)
    return _largest_gap(kernels.swiglu, rows_reference.swiglu, leaves)


def nf4_error(dtype: torch.dtype, device: str, arguments: argparse.Namespace) -> float:
    """4-bit weights; the look-up table is the definition, and bits must agree."""
    packed = torch.randint(256, (HIDDEN * 512,), dtype=torch.uint8, device=device)
    absmax = torch.rand(HIDDEN * 16, device=device)
    call = (packed, absmax, (HIDDEN, 1024), dtype)
    same = torch.equal(kernels.dequantize_nf4(*call), nf4_reference.dequantize_nf4(*call))
    return 0.0 if same else float("inf")


CHECKS: dict[str, Callable[[torch.dtype, str, argparse.Namespace], float]] = {
    "attention": attention_error,
    "lora": lora_error,
    "rms_norm": norm_error,
    "swiglu": swiglu_error,
    "nf4": nf4_error,
}


def _draw(shapes: list[tuple[int, ...]], dtype: torch.dtype, device: str) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(s, generator=generator, device=device).to(dtype) for s in shapes]


def _largest_gap(
    public: Callable[..., Tensor], definition: Callable[..., Tensor], leaves: list[Tensor]
) -> float:
    """Of output and gradients over the largest right value; the definition runs in float64."""
    found = _with_gradients(public, leaves)
    right = _with_gradients(definition, [x.double() for x in leaves])
    gaps = [
        ((a.double() - b).abs().max() / b.abs().max()).item()
        for a, b in zip(found, right, strict=True)
    ]
    return max(gaps)


def _with_gradients(function: Callable[..., Tensor], leaves: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in leaves]
    output = function(*leaves)
    above = torch.cos(torch.arange(output.numel(), device=output.device)).view_as(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, above.to(output.dtype))]


def _require(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            "no CUDA device: this session measures one. --check-only --device cpu tries the "
            "checks on the ways that a CPU takes"
        )


def _write(path: Path, report: dict[str, Any]) -> None:
    report = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **report}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="gpu_session.py",
        description="Check every kernel on a CUDA device, then time attention and whole steps.",
        epilog="Exits with 1 without a CUDA device, or when a kernel is wrong.",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, help="for everything together (default: 8)")
    add("--output-dir", type=Path, default=RESULTS, help="where JSON and logs are written")
    add("--stages", nargs="+", metavar="NAME", help="these only (default: all)")
    add("--check-only", action="store_true", help="only the first stage, in this process")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="of the check")
    add("--dtypes", nargs="+", choices=list(TOLERANCES), default=["bfloat16", "float16"])
    add("--tokens", type=int, default=TOKENS, help="in the packs that are checked")
    add("--data-dir", type=Path, help="a corpus to take lengths from; default: as CoNLL-2003")
    add("--tokenizer", default="smollm2-135m", help="backbone whose tokenizer cuts the corpus")
    add("--seed", type=int, default=0, help="of the lengths drawn")
    return parser


if __name__ == "__main__":
    main()
