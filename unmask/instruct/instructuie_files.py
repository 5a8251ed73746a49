"""Folders of IE INSTRUCTIONS: `ROOT/TASK/DATASET/{train,dev,test}.json` and `labels.json`.

One data set is read by itself, or all of them as a collection, each with its own labels.

A file is a JSON array of sentences with entities, relations or events. `labels.json` is a list
for entities and relations, two lists (types, roles) for events, or an object from event types to
their roles. The collection holds restricted corpora and is not part of this package.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unmask.instruct.examples import Argument, Entity, Event, IEExample, Item, Relation
from unmask.instruct.instructuie_templates import TASKS
from unmask.instruct.labels import LabelSet

FILES = {"train": "train.json", "validation": "dev.json", "test": "test.json"}


@dataclass(frozen=True)
class Folder:
    """One data set: its examples by split, its labels, and the task that its folder stands under.

    The task is empty where a folder was read by itself.
    """

    name: str
    splits: dict[str, tuple[IEExample, ...]]
    labels: LabelSet
    task: str = ""


def read_folder(folder: Path, task: str = "") -> Folder:
    """The data set in one folder; splits that have no file are left out.

    With `task` the ids of examples begin with it: a data set may stand under several tasks.

    Raises:
        FileNotFoundError: when there is no labels.json or no split at all.
        ValueError: when a file is not of the expected form, naming file and record.
    """
    if not (folder / "labels.json").exists():
        raise FileNotFoundError(
            f"{folder} holds no labels.json; expected train.json, dev.json, test.json beside it"
        )
    labels = _labels(folder / "labels.json")
    splits = {
        split: tuple(_examples(folder / name, folder.name, task))
        for split, name in FILES.items()
        if (folder / name).exists()
    }
    if not splits:
        raise FileNotFoundError(f"{folder} holds none of {', '.join(FILES.values())}")
    return Folder(folder.name, splits, labels, task)


def read_collection(root: Path) -> list[Folder]:
    """Every data set of a collection, `ROOT/TASK/DATASET`, in order of their paths.

    Raises:
        FileNotFoundError: when no folder of a task holds a data set.
        ValueError: as `read_folder`.
    """
    paths = sorted(path.parent for path in root.glob("*/*/labels.json"))
    folders = [read_folder(path, path.parent.name) for path in paths if path.parent.name in TASKS]
    if not folders:
        raise FileNotFoundError(f"{root} holds no data set; expected {root}/NER/NAME/labels.json")
    return folders


def complete_splits(
    splits: dict[str, tuple[IEExample, ...]], seed: int = 0
) -> dict[str, tuple[IEExample, ...]]:
    """Splits made where they are missing, as the paper does.

    Train alone is cut 8:1:1 at random; with train and validation, half of validation is test.
    """
    if "test" in splits:
        return splits
    if "validation" in splits:
        held = splits["validation"]
        half = len(held) // 2
        return {**splits, "validation": held[:half], "test": held[half:]}
    examples = list(splits["train"])
    random.Random(seed).shuffle(examples)
    tenth = len(examples) // 10
    return {
        "train": tuple(examples[2 * tenth :]),
        "validation": tuple(examples[:tenth]),
        "test": tuple(examples[tenth : 2 * tenth]),
    }


def _labels(path: Path) -> LabelSet:
    values = _json(path)
    if isinstance(values, dict) and all(isinstance(roles, list) for roles in values.values()):
        return LabelSet(tuple(values), roles={name: tuple(values[name]) for name in values})
    if isinstance(values, list) and all(isinstance(name, str) for name in values):
        return LabelSet(tuple(name for name in dict.fromkeys(values) if name != "NA"))
    if isinstance(values, list) and len(values) == 2 and all(isinstance(v, list) for v in values):
        types, roles = values
        return LabelSet(tuple(types), roles=dict.fromkeys(types, tuple(roles)))
    raise ValueError(
        f"{path} must hold a list of labels, two lists (event types, roles), or an object from "
        "event types to roles"
    )


def _examples(path: Path, dataset: str, task: str) -> list[IEExample]:
    records = _json(path)
    if not isinstance(records, list):
        raise ValueError(f"{path} holds no JSON array; expected an array of sentences")
    prefix = f"{task}/{dataset}" if task else dataset
    return [
        replace(_example(path, index, record, dataset), id=f"{prefix}/{path.stem}/{index}")
        for index, record in enumerate(records)
    ]


def _example(path: Path, index: int, record: Any, dataset: str) -> IEExample:
    try:
        text = record["sentence"]
        words = tuple(text.split(" "))
        places = _word_places(words)
        items: list[Item] = [_entity(one, places) for one in record.get("entities", ())]
        items += [_relation(one) for one in record.get("relations", ())]
        items += [_event(one) for one in record.get("events", ())]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}, record {index}: expected a sentence with entities, relations or events, "
            f"and {type(error).__name__} says otherwise: {error}"
        ) from None
    kept = words if all(words) else None
    return IEExample("", text, kept, tuple(items), dataset)


def _entity(record: dict[str, Any], places: dict[int, int]) -> Entity:
    position = record.get("pos") or [-1, -1]
    # An end has its own key: the index after the word that ends there, negated and less one.
    start, end = places.get(position[0]), places.get(-1 - position[1])
    if start is None or end is None:
        return Entity(record["name"], record["type"])
    return Entity(record["name"], record["type"], start, end)


def _relation(record: dict[str, Any]) -> Relation:
    head, tail = record["head"], record["tail"]
    return Relation(head["name"], record["type"], tail["name"], head.get("type"), tail.get("type"))


def _event(record: dict[str, Any]) -> Event:
    arguments = tuple(Argument(one["role"], one["name"]) for one in record.get("arguments", ()))
    return Event(record["type"], record["trigger"], arguments)


def _word_places(words: tuple[str, ...]) -> dict[int, int]:
    """Word index by the character it starts at; one past the word by -1 - the one it ends at."""
    places, position = {}, 0
    for index, word in enumerate(words):
        places[position] = index
        position += len(word)
        places[-1 - position] = index + 1
        position += 1
    return places


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
