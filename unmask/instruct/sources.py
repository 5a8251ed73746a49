"""Where examples come from: any corpus that the library reads, and three forms of others.

- a task, or a folder in any format of `unmask.data` (entities, with words);
- a folder of IE INSTRUCTIONS, known by its labels.json (relations and events too);
- a file of a teacher's answers, `.jsonl`, for training;
- a file of UniversalNER conversations, `.json`, whose questions stand ready.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from unmask.data.sentence import SPLITS, Corpus
from unmask.data.tasks import load_task
from unmask.instruct.examples import Entity, IEExample, example_from_sentence
from unmask.instruct.instructuie_files import complete_splits, read_folder
from unmask.instruct.labels import LabelSet, labels_in, read_names
from unmask.instruct.prompts import Query
from unmask.instruct.uniner_files import read_conversations
from unmask.instruct.uniner_teacher import read_answers


@dataclass(frozen=True)
class SourceSettings:
    """What to read; as the flags of a sweep, and a file of natural names."""

    task: str = "lookright"
    data_dir: Path | None = None
    train_from: str | None = None
    validation_from: str | None = None
    column: str | None = None
    limit_train: int | None = None
    limit: int | None = None
    """At most so many sentences of validation and of test; scores then say "first N"."""
    names: Path | None = None


@dataclass(frozen=True)
class ExampleSource:
    """Examples by split with their labels; `queries` where the source brings its own.

    `fingerprint` is the corpus's own, so that results stand beside those of a sweep on the same
    data.
    """

    name: str
    splits: dict[str, list[IEExample]]
    labels: LabelSet
    fingerprint: str
    notes: tuple[str, ...] = ()
    queries: dict[str, list[Query]] = field(default_factory=dict)


def load_source(settings: SourceSettings) -> ExampleSource:
    """Read what the settings name.

    Raises:
        ValueError, FileNotFoundError: when it cannot be read; see the readers.
    """
    path = settings.data_dir
    natural = read_names(settings.names) if settings.names else {}
    if path is not None and path.is_file():
        return _from_file(settings.task, path)
    if path is not None and (path / "labels.json").exists():
        return _from_folder(settings, path, natural)
    corpus = load_task(
        settings.task,
        path,
        train_from=settings.train_from,
        validation_from=settings.validation_from,
        column=settings.column,
        limit_train=settings.limit_train,
    )
    corpus = _limited(corpus, settings.limit)
    splits = {
        split: [
            # Sentences of two splits may share an id; the split tells them apart.
            replace(example_from_sentence(one, corpus.name), id=f"{split}/{index}/{one.id}")
            for index, one in enumerate(corpus.split(split))
        ]
        for split in SPLITS
    }
    labels = LabelSet(corpus.labels, natural)
    return ExampleSource(corpus.name, splits, labels, corpus.fingerprint(), corpus.notes)


def _limited(corpus: Corpus, limit: int | None) -> Corpus:
    if limit is None:
        return corpus
    if limit < 1:
        raise ValueError(f"--limit must be at least 1, got {limit}")
    note = f"validation and test: only the first {limit} sentences, as asked"
    return replace(
        corpus,
        validation=corpus.validation[:limit],
        test=corpus.test[:limit],
        notes=(*corpus.notes, note),
    )


def _from_folder(settings: SourceSettings, path: Path, natural: dict[str, str]) -> ExampleSource:
    folder = read_folder(path)
    splits = {name: list(examples) for name, examples in complete_splits(folder.splits).items()}
    splits["train"] = splits.get("train", [])[: settings.limit_train]
    for split in ("validation", "test"):
        splits[split] = splits.get(split, [])[: settings.limit]
    labels = replace(folder.labels, natural=natural)
    every = (example for split in SPLITS for example in splits[split])
    return ExampleSource(folder.name, splits, labels, fingerprint_of(every))


def _from_file(name: str, path: Path) -> ExampleSource:
    if path.suffix == ".jsonl":
        examples, counts = read_answers(path)
        labels = labels_in(item.type for one in examples for item in one.of(Entity))
        named = replace(labels, natural={label: label for label in labels.names})
        notes = tuple(f"{reason}: {count}" for reason, count in sorted(counts.items()))
        splits = {"train": examples, "validation": [], "test": []}
        return ExampleSource(name, splits, named, fingerprint_of(examples), notes)
    queries = read_conversations(path)
    labels = labels_in(label for query in queries for label in query.labels)
    named = replace(labels, natural={label: label for label in labels.names})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return ExampleSource(path.stem, {}, named, digest, queries={"test": queries})


def fingerprint_of(examples: Iterable[IEExample]) -> str:
    """Sixteen hex digits that change when any example does."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(example.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()[:16]
