"""How long does a report of ten thousand runs take? Reading the ledger, tests, pages and tables.

Two made-up ledgers: one search over codes of eleven bits with its predictions kept for a test
split as long as CoNLL-2003's, and 125 sweeps of sixteen configurations and five seeds. Before a
time is printed, every run must be in runs.csv, and every section in the page.

    python benchmarks/report.py                  # 10,000 lines of each kind
    python benchmarks/report.py --lines 800
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unmask.analysis.breakdown import gold_sentences
from unmask.config import gray_codes
from unmask.data.sentence import Sentence
from unmask.recipe import PAPER
from unmask.results.kept import keep_predictions, keep_sentences
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult
from unmask.sweep.outputs import write_outputs

RESULTS = Path(__file__).parent / "results" / "report.json"
SEEDS = (120, 121, 122, 123, 124)
DATA = "0" * 16
LABELS = ("LOC", "MISC", "ORG", "PER")
NUM_STEPS = 250
NUM_TEST_SENTENCES = 3453
WORDS_PER_SENTENCE = 14
LIMIT_SECONDS = 20.0


def main() -> None:
    """Time both ledgers, print and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=10_000, help="runs in each ledger")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    measured = [
        _measure(name, make, arguments.lines)
        for name, make in (("one search", _search), ("many sweeps", _sweeps))
    ]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "load_average_after": os.getloadavg(),
        "limit_seconds": LIMIT_SECONDS,
        "measurements": measured,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for one in measured:
        print(
            f"{one['lines']} lines, {one['ledger']}: {one['seconds']:.1f} s "
            f"({one['cpu_seconds']:.1f} s of one processor), "
            f"a page of {one['page_mebibytes']:.1f} MiB"
        )


def _measure(name: str, make: Callable[[int], Iterator[Run]], num_lines: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        runs = list(make(num_lines))
        ledger_bytes = _write_ledger(folder, runs)
        if name == "one search":
            _keep_predictions(folder, runs)
        started, processor = time.perf_counter(), time.process_time()
        write_outputs(Ledger(folder / "ledger.jsonl"), folder)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        _check(folder, runs)
        page_bytes = (folder / "report.html").stat().st_size
    return {
        "ledger": name,
        "lines": len(runs),
        "ledger_mebibytes": ledger_bytes / 2**20,
        "seconds": seconds,
        "cpu_seconds": processor,
        "page_mebibytes": page_bytes / 2**20,
    }


def _search(num_lines: int) -> Iterator[Run]:
    """Eleven bits, all causal and all open first."""
    codes = ["0" * 11, "1" * 11]
    codes += [format(number, "011b") for number in range(1, 2**11 - 1)]
    for code in codes[: num_lines // len(SEEDS)]:
        for seed in SEEDS:
            yield Run("backbone", "task", code, seed, PAPER, DATA)


def _sweeps(num_lines: int) -> Iterator[Run]:
    codes = gray_codes(4)
    for number in range(num_lines // (len(codes) * len(SEEDS))):
        for code in codes:
            for seed in SEEDS:
                yield Run("backbone", f"task-{number}", code, seed, PAPER, DATA)


def _write_ledger(folder: Path, runs: list[Run]) -> int:
    """The size of the file in bytes."""
    draw = random.Random(0)
    lines = []
    for run in runs:
        result = RunResult(
            run,
            {split: _scores(draw) for split in ("validation", "test")},
            {"train_loss": [2 * 0.99**step + 0.01 * draw.random() for step in range(NUM_STEPS)]},
            {"train_seconds": 60.0, "tokens_per_second": 1000.0, "peak_memory_bytes": 2.0**30},
            {"python": "3.11", "num_layers": "32"},
        )
        lines.append(json.dumps({"kind": "run", "result": result.to_dict()}))
    path = folder / "ledger.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path.stat().st_size


def _scores(draw: random.Random) -> dict[str, Any]:
    f1 = 0.5 + 0.4 * draw.random()
    row = {"f1": f1, "precision": f1, "recall": f1, "support": 100}
    counts = {"num_sentences": NUM_TEST_SENTENCES, "num_words": 46435, "num_truncated_words": 0}
    scoring = {"mode": "strict", "scheme": "IOB2", "gold": "full"}
    return {**row, "per_label": dict.fromkeys(LABELS, row), **counts, **scoring}


def _keep_predictions(folder: Path, runs: list[Run]) -> None:
    """As a sweep with --test all would: every run's spans on a test split, one in five wrong."""
    draw = random.Random(1)
    gold = []
    for _ in range(NUM_TEST_SENTENCES):
        tags = ["O"] * WORDS_PER_SENTENCE
        for start in (1, 7):
            tags[start] = f"B-{draw.choice(LABELS)}"
        gold.append(tags)
    words = tuple(f"word{number}" for number in range(WORDS_PER_SENTENCE))
    sentences = [Sentence(str(n), words, tuple(tags)) for n, tags in enumerate(gold)]
    keep_sentences(folder, DATA, "test", gold_sentences(sentences, ()))
    wrong = ["O"] * WORDS_PER_SENTENCE
    for part in range(len(SEEDS)):  # a few different predictions, shared out among the runs
        predicted = [wrong if draw.random() < 0.2 else tags for tags in gold]
        keep_predictions(folder / "one", "test", gold, predicted)
        for run in runs[part :: len(SEEDS)]:
            place = folder / "runs" / run.id
            place.mkdir(parents=True)
            for path in (folder / "one").iterdir():
                os.link(path, place / path.name)
        for path in (folder / "one").iterdir():
            path.unlink()


def _check(folder: Path, runs: list[Run]) -> None:
    with (folder / "runs.csv").open(encoding="utf-8") as stream:
        written = {row["run"] for row in csv.DictReader(stream)}
    if written != {run.id for run in runs}:
        raise RuntimeError(f"runs.csv has {len(written)} of {len(runs)} runs; no time is given")
    page = (folder / "report.html").read_text(encoding="utf-8")
    num_sections = len({run.task for run in runs})
    if page.count("<section ") != num_sections:
        raise RuntimeError(f"the page lacks some of {num_sections} sections; no time is given")


if __name__ == "__main__":
    main()
