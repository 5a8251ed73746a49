"""`unmask instruct distil`: what a large model is asked for, by system.

uniner  entities with open types, or their definitions: `build --data answers-type.jsonl`
seqgpt  topics, sentiment, intent and typed entities: `build --data labelled.jsonl`, the first
        of two stages; `train --start-from` goes on from it with a corpus
hum     preference rules for the labels of a corpus: `build --set rules=rules.jsonl`; without
        an endpoint those that can be made without a model
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.instruct.uniner_teacher import Teacher


def distil(arguments: argparse.Namespace, console: Any) -> None:
    """Ask for what the system wants, into a file under --out, and say what came of it.

    Raises:
        ValueError: when a flag is missing, or the system learns from no teacher.
    """
    name = arguments.system
    if name not in WAYS:
        raise ValueError(f"system {name} learns from no teacher; {', '.join(WAYS)} do")
    needed = ("out",) if name == "hum" else ("endpoint", "teacher", "passages", "out")
    for flag in (*needed, *(("teacher",) if arguments.endpoint else ())):
        if getattr(arguments, flag) is None:
            raise ValueError(f"unmask instruct distil needs --{flag}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path, counts = WAYS[name](arguments)
    console.print(str(path))
    for reason, count in sorted(counts.items()):
        console.print(f"{reason}: {count}")


def _teacher(arguments: argparse.Namespace) -> Teacher:
    from unmask.instruct.uniner_teacher import Teacher

    key = arguments.api_key_file.read_text().strip() if arguments.api_key_file else ""
    return Teacher(arguments.endpoint, arguments.teacher, key)


def _texts(arguments: argparse.Namespace) -> list[str]:
    from unmask.instruct.uniner_teacher import chunk_passages

    return list(chunk_passages(arguments.passages.read_text(encoding="utf-8").splitlines()))


def _entities(arguments: argparse.Namespace) -> tuple[Path, Mapping[str, int]]:
    from unmask.instruct.uniner_teacher import distil, read_answers

    path = arguments.out / f"answers-{arguments.variant}.jsonl"
    asked = distil(_texts(arguments), _teacher(arguments), path, arguments.variant)
    return path, {"asked now": asked, **read_answers(path)[1]}


def _labels(arguments: argparse.Namespace) -> tuple[Path, Mapping[str, int]]:
    from unmask.instruct.seqgpt_pretraining import label_texts, read_labelled

    path = arguments.out / "labelled.jsonl"
    asked = label_texts(_texts(arguments), _teacher(arguments).ask, path, arguments.lang)
    return path, {"asked now": asked, **read_labelled(path)[1]}


def _rules(arguments: argparse.Namespace) -> tuple[Path, Mapping[str, int]]:
    from unmask.instruct.hum_rules import pairs_without_model, synthesise_rules

    path, samples = arguments.out / "rules.jsonl", _samples(arguments)
    if arguments.endpoint:
        return path, synthesise_rules(samples, _teacher(arguments).ask, path)
    pairs = pairs_without_model(samples)
    lines = (json.dumps(asdict(pair), ensure_ascii=False) for pair in pairs)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path, Counter(f"kept: {pair.strategy}" for pair in pairs)


def _samples(arguments: argparse.Namespace) -> Sequence[Any]:
    """Every label of every training text, with its values."""
    from unmask.instruct.cli import source_settings
    from unmask.instruct.hum_guidelines import label_values
    from unmask.instruct.hum_rules import Sample
    from unmask.instruct.sources import load_source

    source = load_source(source_settings(arguments))
    return [
        Sample(example.text, label, tuple(values), task)
        for task in ("NER", "RE")
        for example in source.splits.get("train", ())
        for label, values in label_values(example, source.labels, task).items()
    ]


WAYS: dict[str, Callable[[argparse.Namespace], tuple[Path, Mapping[str, int]]]] = {
    "uniner": _entities,
    "seqgpt": _labels,
    "hum": _rules,
}
