"""What do rendering and reading cost in the instruction-tuned systems? Seconds for 100,000 of each.

Rendering is a corpus of random sentences with three labels, as training and as evaluation data,
each answer read back. Reading is broken answers through every parser of every system: an exception
ends the program and nothing is written. Then every parser reads long hostile answers of several
lengths: its time must grow as the length does, not as its square.

    python benchmarks/instruct.py
    python benchmarks/instruct.py --answers 1000 --sentences 1000
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf, log
from pathlib import Path
from statistics import linear_regression
from typing import Any

from unmask.data.sentence import Sentence
from unmask.errors import one_line_errors
from unmask.instruct.examples import IEExample, example_from_sentence
from unmask.instruct.fuzzing import HARD, Parser, broken_answer, every_parser, hard_answer
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import STATUSES
from unmask.instruct.registry import SYSTEMS, load_system

RESULTS = Path(__file__).parent / "results" / "instruct.json"
LABELS = LabelSet(("LOC", "ORG", "PER"))
LENGTHS = (50_000, 100_000, 200_000, 400_000)
REPETITIONS = 7
SHORTEST_SECONDS = 0.004
"""What the longest answer must take: below it the clock says more than the parser."""
SUSPECT = 1.2
"""Growth between the shortest and the longest answer, read once, above which all are timed."""
MOST = 1.5
"""Growth is the slope of log seconds over log length: 1 is linear and 2 quadratic."""


def main() -> None:
    """Parse the command line and report errors in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=100_000, help="through every parser")
    parser.add_argument("--sentences", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with one_line_errors("instruct.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Render, read, time, print, write.

    Raises:
        RuntimeError: when a parser takes more than linear time; nothing is written then.
    """
    load_before = os.getloadavg()
    parsers = list(every_parser())
    rendering = [render(name, arguments.sentences) for name in SYSTEMS]
    reading = [read(parser, arguments.answers) for parser in parsers]
    grown = [grow(parser) for parser in parsers]
    worst = max(grown, key=lambda one: one["growth"])
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": {
            "unmask": version("unmask"),
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "clock": "processor seconds of one process",
        "rendering": rendering,
        "reading": reading,
        "growth_lengths": list(LENGTHS),
        "growth": grown,
    }
    _print(report, worst)
    if worst["growth"] > MOST:
        raise RuntimeError(
            f"{worst['parser']} takes {worst['seconds']} s for {LENGTHS} characters of "
            f"{worst['piece']!r}: length to the power of {worst['growth']}, at most {MOST} passes"
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(_lines(report), encoding="utf-8")
    print(f"written to {arguments.output}")


def render(name: str, number: int) -> dict[str, Any]:
    """Seconds to render random sentences, for training and for evaluation."""
    examples = sentences(number)
    result: dict[str, Any] = {"system": name, "sentences": number}
    started = time.process_time()
    system = load_system(name).prepared(examples, LABELS)
    result["prepare_seconds"] = round(time.process_time() - started, 2)
    for train in (True, False):
        started = time.process_time()
        count = sum(1 for _ in system.render_all(examples, LABELS, train))
        what = "train" if train else "evaluate"
        result[f"{what}_queries"] = count
        result[f"{what}_seconds"] = round(time.process_time() - started, 2)
    return result


def sentences(number: int) -> list[IEExample]:
    """Sentences of 16 words with two entities of random words and labels each."""
    generator = random.Random(0)
    found = []
    for index in range(number):
        words = [f"word{generator.randrange(30_000)}" for _ in range(16)]
        tags = ["O"] * 16
        for start in (generator.randrange(6), generator.randrange(8, 14)):
            label = generator.choice(LABELS.names)
            tags[start : start + 2] = [f"B-{label}", f"I-{label}"]
        found.append(example_from_sentence(Sentence(str(index), tuple(words), tuple(tags))))
    return found


def read(parser: Parser, number: int) -> dict[str, Any]:
    """Seconds to read broken answers, and how they ended."""
    generator = random.Random(parser.name)
    statuses: Counter[str] = Counter()
    seconds, characters = 0.0, 0
    for _ in range(number // 1000 or 1):
        answers = [broken_answer(parser.query.answer, generator) for _ in range(min(number, 1000))]
        characters += sum(map(len, answers))
        started = time.process_time()
        statuses.update(parser.system.parse(one, parser.query).status for one in answers)
        seconds += time.process_time() - started
    return {
        "parser": parser.name,
        "answers": sum(statuses.values()),
        "characters": characters,
        "seconds": round(seconds, 2),
        **{status: statuses[status] for status in STATUSES},
    }


def grow(parser: Parser) -> dict[str, Any]:
    """The hostile answer whose time grows fastest with its length.

    All are read once, short and long; the one that grows most and all that look suspect are timed
    at every length, where the best of several repetitions is free of what else the machine did.
    """
    looked = {
        piece: growth(_best(parser, piece, LENGTHS[:: len(LENGTHS) - 1], 1)) for piece in HARD
    }
    timed = [piece for piece, power in looked.items() if power > SUSPECT]
    timed = timed or [max(looked, key=lambda piece: looked[piece])]
    found = []
    for piece in timed:
        seconds = _best(parser, piece, LENGTHS, REPETITIONS)
        found.append((growth(seconds), piece, list(seconds.values())))
    power, piece, times = max(found)
    return {
        "parser": parser.name,
        "growth": round(power, 2),
        "piece": piece,
        "seconds": [round(one, 4) for one in times],
    }


def growth(seconds: Mapping[int, float]) -> float:
    """Slope of the line through log seconds over log length, by least squares.

    Nothing grows where even the longest answer is read too fast for the clock.
    """
    if max(seconds.values()) < SHORTEST_SECONDS:
        return 0.0
    return linear_regression(*map(_logs, (seconds.keys(), seconds.values()))).slope


def _logs(values: Iterable[float]) -> list[float]:
    return [log(value) for value in values]


def _best(parser: Parser, piece: str, lengths: Sequence[int], repetitions: int) -> dict[int, float]:
    """Least seconds by length, lengths in turn, so that a busy second meets all of them."""
    best = dict.fromkeys(lengths, inf)
    answers = {length: hard_answer(piece, length) for length in lengths}
    for _ in range(repetitions):
        for length, answer in answers.items():
            best[length] = min(best[length], _seconds(parser, answer))
    return best


def _seconds(parser: Parser, answer: str) -> float:
    """Without collections of garbage, which walk through everything that the process holds."""
    gc.disable()
    started = time.process_time()
    parser.system.parse(answer, parser.query)
    seconds = time.process_time() - started
    gc.enable()
    return seconds


def _print(report: dict[str, Any], worst: dict[str, Any]) -> None:
    for one in report["rendering"]:
        prepared = one["prepare_seconds"] + one["train_seconds"]
        print(
            f"{one['system']:<12} {one['sentences']} sentences rendered in {prepared:.1f} s for "
            f"training ({one['train_queries']} queries), {one['evaluate_seconds']:.1f} s for "
            f"evaluation ({one['evaluate_queries']})"
        )
    for name in SYSTEMS:
        print(f"{name:<12} {_summed([r for r in report['reading'] if _of(r, name)])}")
    print(
        f"time grows at most with length to the power of {worst['growth']}: {worst['parser']}, "
        f"{worst['piece']!r}, {worst['seconds']} s for {LENGTHS} characters"
    )


def _lines(report: dict[str, Any]) -> str:
    """JSON with a line for every measurement."""
    parts = []
    for key, value in report.items():
        text = json.dumps(value, ensure_ascii=False)
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in value)
            text = f"[\n  {rows}\n ]"
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _of(result: dict[str, Any], name: str) -> bool:
    return result["parser"].split(" ")[0] == name


def _summed(results: Sequence[dict[str, Any]]) -> str:
    answers = sum(one["answers"] for one in results)
    seconds = sum(one["seconds"] for one in results)
    counts = ", ".join(f"{sum(one[name] for one in results)} {name}" for name in STATUSES)
    return f"{len(results)} parsers, {answers} broken answers in {seconds:.1f} s: {counts}"


if __name__ == "__main__":
    main()
