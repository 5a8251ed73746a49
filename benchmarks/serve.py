"""Does `unmask serve` lose a request? Many clients against a real server on this machine.

A server process on loopback; each client asks again as soon as it is answered. Every answer is
compared with what the labeler predicts in this process. Then a second server with a short queue
gets all clients at once with many texts each: every request must come back as 200 or 429. One
wrong or missing answer, and the benchmark fails.

    python benchmarks/serve.py                                  # 10,000 requests, 32 clients
    python benchmarks/serve.py --requests 500 --clients 8
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import torch

from unmask.data.lookright import generate
from unmask.errors import one_line_errors
from unmask.model import UnmaskedForTokenClassification
from unmask.training.environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "serve.json"
STARTUP_SECONDS = 120
NUM_TEXTS = 64
OVERLOAD_TEXTS = 8
"""Texts a request in the second part; twice this many may wait."""


def main() -> None:
    """Parse the command line and report errors in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with one_line_errors("serve.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Serve, ask, compare, print, write.

    Raises:
        RuntimeError: when an answer is missing or wrong, or the full queue refuses nobody.
    """
    labeler = _labeler()
    texts = [" ".join(sentence.words) for sentence in generate(5, NUM_TEXTS, 3, 3).train]
    expected = [_spans(spans) for spans in labeler.predict(texts)]
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        labeler.save_pretrained(folder)
        with _server(folder) as address:
            seconds = asyncio.run(_steady(address, arguments, texts, expected))
        with _server(folder, "--max-waiting", str(2 * OVERLOAD_TEXTS)) as address:
            overload = asyncio.run(_overload(address, arguments.clients, texts, expected))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": describe_environment(labeler.loaded),
        "load_average_before": load,
        "requests": arguments.requests,
        "clients": arguments.clients,
        "requests_per_second": round(arguments.requests / sum(seconds) * arguments.clients, 1),
        "milliseconds": {
            name: round(1000 * sorted(seconds)[int(share * (len(seconds) - 1))], 1)
            for name, share in (("median", 0.5), ("99th percentile", 0.99), ("longest", 1.0))
        },
        "lost": 0,
        "wrong": 0,
        "overload": overload,
    }
    print(
        f"{report['requests']} requests of {report['clients']} clients, none lost, none wrong: "
        f"{report['requests_per_second']} a second, {report['milliseconds']} ms\n"
        f"with a queue of {2 * OVERLOAD_TEXTS} texts: {overload}"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")


async def _steady(
    address: str, arguments: argparse.Namespace, texts: Sequence[str], expected: Sequence[Any]
) -> list[float]:
    """Seconds of every request."""
    pending = iter(range(arguments.requests))
    seconds: list[float] = []

    async def one_client(client: httpx.AsyncClient) -> None:
        for number in pending:
            started = time.perf_counter()
            answer = await client.post("/predict", json={"inputs": texts[number % len(texts)]})
            seconds.append(time.perf_counter() - started)
            _check(answer, expected[number % len(texts)])

    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        try:
            await asyncio.gather(*(one_client(client) for _ in range(arguments.clients)))
        except httpx.TransportError as error:
            raise RuntimeError(
                f"a request was lost after {len(seconds)} answers: {error!r}"
            ) from error
    if len(seconds) != arguments.requests:
        raise RuntimeError(f"{arguments.requests - len(seconds)} requests were lost")
    return seconds


async def _overload(
    address: str, clients: int, texts: Sequence[str], expected: Sequence[Any]
) -> dict[str, int]:
    """How many of `clients` simultaneous requests got which status."""
    chosen, wanted = list(texts[:OVERLOAD_TEXTS]), list(expected[:OVERLOAD_TEXTS])
    async with httpx.AsyncClient(base_url=address, timeout=120) as client:
        asked = (client.post("/predict", json={"inputs": chosen}) for _ in range(clients))
        answers = await asyncio.gather(*asked)
    for answer in answers:
        if answer.status_code == 200:
            _check(answer, wanted, many=True)
    counts = Counter(answer.status_code for answer in answers)
    if set(counts) != {200, 429}:
        raise RuntimeError(f"a full queue should answer 200 or 429, got {dict(counts)}")
    return {str(status): count for status, count in sorted(counts.items())}


def _check(answer: httpx.Response, expected: Any, many: bool = False) -> None:
    answer.raise_for_status()
    results = answer.json()["results"]
    got = [_spans(spans) for spans in results] if many else _spans(results)
    if got != expected:
        raise RuntimeError(f"a wrong answer: {got}, expected {expected}")


def _spans(predictions: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What must be equal; scores differ in their last digits from batch to batch."""
    return [(p["text"], p["label"], p["start"], p["end"]) for p in predictions]


def _labeler() -> UnmaskedForTokenClassification:
    labeler = UnmaskedForTokenClassification.from_pretrained("tiny", ("A", "B"), unmask="0110")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        labeler.score_weight.normal_(0, 0.5, generator=generator)
    return labeler


@contextmanager
def _server(folder: str, *flags: str) -> Iterator[str]:
    """`unmask serve` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "unmask.cli", "serve", folder, "--port", str(port), *flags]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(address: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + STARTUP_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended: {process.stderr and process.stderr.read()}")
        try:
            httpx.get(f"{address}/health", timeout=5).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not answer within {STARTUP_SECONDS} s")


if __name__ == "__main__":
    main()
