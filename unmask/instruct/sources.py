"""Where examples come from: any corpus that the library reads, and three forms of others.

- a task, or a folder in any format of `unmask.data` (entities, with words);
- a folder of IE INSTRUCTIONS, known by its labels.json (relations and events too), or the root of
  such folders, whose data sets keep their own labels;
- a file of a teacher's answers, `.jsonl`, for training: entities for UniversalNER, or labels of
  many kinds, which only SeqGPT renders;
- a file of UniversalNER conversations, `.json`, whose questions stand ready.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from unmask.data.sentence import SPLITS, Corpus
from unmask.data.tasks import load_task
from unmask.instruct.examples import Entity, IEExample, example_from_sentence
from unmask.instruct.instructuie_files import (
    Folder,
    complete_splits,
    read_collection,
    read_folder,
)
from unmask.instruct.labels import LabelSet, labels_in, read_names
from unmask.instruct.prompts import Query
from unmask.instruct.seqgpt_pretraining import holds_labels, read_labelled
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
class Part:
    """One data set of several: the task of its folder, examples by split, its own labels."""

    task: str
    splits: dict[str, list[IEExample]]
    labels: LabelSet


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
    labelled: dict[str, list[IEExample]] = field(default_factory=dict)
    """Texts with open labels by task, for a first stage of training."""
    parts: tuple[Part, ...] = ()
    """Where the source is several data sets; `splits` and `labels` are then of all of them."""


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
    if path is not None and any(path.glob("*/*/labels.json")):
        return _from_collection(settings, path, natural)
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
    part = _part(read_folder(path), settings, natural)
    every = (example for split in SPLITS for example in part.splits[split])
    return ExampleSource(path.name, part.splits, part.labels, fingerprint_of(every))


def _from_collection(
    settings: SourceSettings, path: Path, natural: dict[str, str]
) -> ExampleSource:
    parts = tuple(_part(folder, settings, natural) for folder in read_collection(path))
    splits = {split: [one for part in parts for one in part.splits[split]] for split in SPLITS}
    names = dict.fromkeys(name for part in parts for name in part.labels.names)
    roles = {raw: many for part in parts for raw, many in part.labels.roles.items()}
    labels = LabelSet(tuple(names), natural, roles=roles)
    every = (example for split in SPLITS for example in splits[split])
    notes = (f"{len(parts)} data sets, each asked about its own labels",)
    return ExampleSource(path.name, splits, labels, fingerprint_of(every), notes, parts=parts)


def _part(folder: Folder, settings: SourceSettings, natural: dict[str, str]) -> Part:
    """A data set with all three splits, cut as the settings say."""
    found = complete_splits(folder.splits)
    limits = {"train": settings.limit_train, "validation": settings.limit, "test": settings.limit}
    splits = {split: list(found.get(split, ()))[: limits[split]] for split in SPLITS}
    return Part(folder.task, splits, replace(folder.labels, natural=natural))


def _from_file(name: str, path: Path) -> ExampleSource:
    if path.suffix == ".jsonl" and holds_labels(path):
        labelled, counts = read_labelled(path)
        every = (example for examples in labelled.values() for example in examples)
        return ExampleSource(
            name, {}, LabelSet(()), fingerprint_of(every), _said(counts), labelled=labelled
        )
    if path.suffix == ".jsonl":
        examples, counts = read_answers(path)
        labels = labels_in(item.type for one in examples for item in one.of(Entity))
        named = replace(labels, natural={label: label for label in labels.names})
        splits = {"train": examples, "validation": [], "test": []}
        return ExampleSource(name, splits, named, fingerprint_of(examples), _said(counts))
    queries = read_conversations(path)
    labels = labels_in(label for query in queries for label in query.labels)
    named = replace(labels, natural={label: label for label in labels.names})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return ExampleSource(path.stem, {}, named, digest, queries={"test": queries})


def _said(counts: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{reason}: {count}" for reason, count in sorted(counts.items()))


def fingerprint_of(examples: Iterable[IEExample]) -> str:
    """Sixteen hex digits that change when any example does."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(example.to_dict(), sort_keys=True).encode())
    return digest.hexdigest()[:16]
