"""Microseconds of Python in a call of packed attention; no GPU is needed.

    python benchmarks/launches.py [--models mistral-7b] [--rounds 15]

The kernels are compiled for a Hopper GPU and launched on CPU tensors by a driver that does nothing.
So this is host cost only: no device, nothing of NVIDIA's driver, no handing over of backward to a
thread of its own. What is left is PyTorch's autograd and memory, ours, and Triton's way from a call
to its launcher. Packs have a few sentences: their number does not matter to the host, the longest
one does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from attention import MODELS, MODES, describe_machine
from attention_peers import Problem
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from unmask.kernels.attention_backward import varlen_attention
from unmask.kernels.interpreter import INTERPRETED

HOPPER = GPUTarget("cuda", 90, 32)
PACKS = {"up to 32": [22, 30], "up to 64": [22, 60], "longer": [22, 60, 88]}
CALLS = 100
"""In a round."""
RESULTS = Path(__file__).parent / "results" / "launches.json"


class NoDevice:
    """Stands for Triton's driver of a Hopper GPU; counts launches."""

    def __init__(self) -> None:
        self.launches = 0
        self.utils = SimpleNamespace(
            load_binary=lambda *_: (1, 1, 0, 0, 1024),
            unload_module=lambda _: None,
            get_device_properties=lambda _: {"max_shared_mem": 227 * 1024},
        )

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        """What launches one compiled kernel."""

        def launch(*arguments: Any) -> None:
            self.launches += 1

        return launch

    def get_current_target(self) -> GPUTarget:
        """What kernels are compiled for."""
        return HOPPER

    def get_current_device(self) -> int:
        """Its number."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """The default one."""
        return 0


def main() -> int:
    """Print the table and write it; 1 where kernels are interpreted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if INTERPRETED:
        print("unset TRITON_INTERPRET: interpreted kernels are not launched")
        return 1
    device = NoDevice()
    driver.set_active(device)  # pyright: ignore[reportArgumentType]
    machine = describe_machine("cpu")
    print(f"{machine['device']}; torch {machine['torch']}, triton {machine['triton']}")
    print(f"host cost only, no device: processor microseconds, best of {arguments.rounds} rounds\n")
    print(f"{'model':<14}{'sentences':<10}" + "".join(f"{mode:>10} (launches)" for mode in MODES))
    rows = []
    for model in arguments.models:
        for name, lengths in PACKS.items():
            timed = time_pack(model, lengths, device, arguments.rounds)
            rows.append({"model": model, "sentences": name, **timed})
            cells = [f"{timed[mode]['us']:>10.1f} {timed[mode]['launches']:>10}" for mode in MODES]
            print(f"{model:<14}{name:<10}" + "".join(cells), flush=True)
    report = {"machine": machine, "rounds": arguments.rounds, "rows": rows}
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.output}")
    return 0


def time_pack(
    model: str, lengths: list[int], device: NoDevice, rounds: int
) -> dict[str, dict[str, float]]:
    """For each mode microseconds of a call and its launches."""
    flags = [index % 2 == 0 for index in range(len(lengths))]
    problem = Problem(lengths, flags, *MODELS[model], torch.bfloat16, "cpu")
    *leaves, grad = problem.draw()
    leaves = [x.requires_grad_() for x in leaves]

    def attend() -> torch.Tensor:
        return varlen_attention(
            *leaves, problem.cu_seqlens, problem.longest, problem.causal, problem.scale,
            cos=problem.cos, sin=problem.sin,
        )  # fmt: skip

    kept = attend()
    work: dict[str, Callable[[], Any]] = {
        "forward": torch.no_grad()(attend),
        "backward": lambda: torch.autograd.grad(kept, leaves, grad, retain_graph=True),
        "both": lambda: torch.autograd.grad(attend(), leaves, grad),
    }
    return {mode: _time(function, device, rounds) for mode, function in work.items()}


def _time(function: Callable[[], Any], device: NoDevice, rounds: int) -> dict[str, float]:
    """Processor time of the best round: whatever else the machine does only adds."""
    function()
    before = device.launches
    function()
    launches = device.launches - before
    seconds = []
    for _ in range(rounds):
        started = time.process_time()
        for _ in range(CALLS):
            function()
        seconds.append(time.process_time() - started)
    return {"us": round(min(seconds) / CALLS * 1e6, 1), "launches": launches}


if __name__ == "__main__":
    sys.exit(main())
