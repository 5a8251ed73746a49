"""The folder that the steps share: what was built, and where outputs of a run are.

OUT/build.json                  system, labels, counts
OUT/SPLIT.queries.jsonl         what is asked, and the gold
OUT/SPLIT.examples.jsonl        the sentences, for scoring
OUT/runs/ID/                    adapter of one run, its outputs and scores
OUT/ledger.jsonl                one line a result, beside those of a sweep if so asked
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unmask.instruct.examples import IEExample
from unmask.instruct.labels import LabelSet
from unmask.instruct.prompts import Query
from unmask.instruct.sources import ExampleSource
from unmask.instruct.system import System

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Built:
    """What `build` left: enough to train, ask and score without the corpus."""

    task: str
    labels: LabelSet
    fingerprint: str


def write_built(
    out: Path, system: System, source: ExampleSource, counts: dict[str, dict[str, Any]]
) -> None:
    """Say in build.json what the folder was built from and for."""
    labels = source.labels
    record = {
        "system": describe(system),
        "task": source.name,
        "fingerprint": source.fingerprint,
        "statistics": counts,
        "labels": {
            "names": list(labels.names),
            "natural": dict(labels.natural),
            "descriptions": dict(labels.descriptions),
            "roles": {name: list(roles) for name, roles in labels.roles.items()},
        },
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (out / "build.json").write_text(text, encoding="utf-8")


def read_built(out: Path, system: System) -> Built:
    """What `build` wrote, checked against the system in use.

    Raises:
        FileNotFoundError: when nothing was built.
        ValueError: when it was built for another system, or other settings.
    """
    path = out / "build.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `unmask instruct build` first")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["system"] != describe(system):
        raise ValueError(
            f"{out} was built for {record['system']}, not {describe(system)}: "
            "give another --out or the same settings"
        )
    labels = record["labels"]
    roles = {name: tuple(values) for name, values in labels["roles"].items()}
    names, natural = tuple(labels["names"]), labels["natural"]
    label_set = LabelSet(names, natural, labels["descriptions"], roles=roles)
    return Built(record["task"], label_set, record["fingerprint"])


def read_queries(out: Path, split: str) -> list[Query]:
    """The queries of a built split."""
    return [Query.from_dict(one) for one in _read_lines(out / f"{split}.queries.jsonl")]


def read_examples(out: Path, split: str) -> list[IEExample]:
    """The examples of a built split."""
    return [IEExample.from_dict(one) for one in _read_lines(out / f"{split}.examples.jsonl")]


def write_lines(path: Path, items: Iterable[Query | IEExample]) -> None:
    """Queries or examples, one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(item.to_dict(), ensure_ascii=False) + "\n")


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: run `unmask instruct build` first")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def describe(system: System) -> str:
    """Name and settings that are not the default, such as "uniner (negatives=none)"."""
    changed = [
        f"{field.name}={getattr(system, field.name)}"
        for field in fields(system)
        if getattr(system, field.name) != field.default
    ]
    return f"{system.name} ({', '.join(changed)})" if changed else system.name


def outputs_path(folder: Path, split: str, decoding: str) -> Path:
    """Where the outputs of a split are."""
    return folder / f"{split}.{decoding}.jsonl"
