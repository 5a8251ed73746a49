"""Flags that name several models, tasks, learning rates or ranks, as the flags of each sweep."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


def one_by_one(arguments: argparse.Namespace) -> list[argparse.Namespace]:
    """The flags of every model, task, learning rate and rank; they share a folder, so one report.

    With several tasks each reads the folder of its name in --data-dir.

    Raises:
        ValueError: when a rate or rank is named twice, or is said in two ways.
    """
    models, tasks = (names_in(text) for text in (arguments.model, arguments.task))
    out = arguments.out or default_out(models, tasks)
    folder = arguments.data_dir
    pairs = []
    for task in tasks:
        data_dir = folder / task if folder is not None and len(tasks) > 1 else folder
        changed = {"task": task, "out": out, "data_dir": data_dir}
        pairs += [argparse.Namespace(**{**vars(arguments), **changed, "model": m}) for m in models]
    for several, field in (("learning_rates", "learning_rate"), ("lora_ranks", "lora_rank")):
        pairs = _with_each(pairs, several, field)
    return pairs


def _with_each(
    sweeps: list[argparse.Namespace], several: str, field: str
) -> list[argparse.Namespace]:
    """Every sweep with every value of a flag that names several for a field of the recipe."""
    first = sweeps[0]
    values = getattr(first, several, None)
    if values is None:
        return sweeps
    flag = f"--{several.replace('_', '-')}"
    if len(set(values)) < len(values):
        raise ValueError(f"{flag} names a value more than once: {', '.join(map(str, values))}")
    if getattr(first, field) is not None or field in getattr(first, "recipe_dotted", {}):
        raise ValueError(f"{flag} and {field} are given both; leave one out")
    if first.search:
        raise ValueError(f"{flag} has no place in a search; say --search-over {field}=...")
    return [argparse.Namespace(**{**vars(one), field: v}) for v in values for one in sweeps]


def default_out(models: Sequence[str], tasks: Sequence[str]) -> Path:
    """The folder of a sweep that was given none."""
    names = [
        Path(model).resolve().name if Path(model).is_dir() else model.replace("/", "--")
        for model in models
    ]
    return Path("results") / f"{'+'.join(names)}-{'+'.join(tasks)}"


def names_in(text: str) -> list[str]:
    """Names with commas between; a text without any is one name."""
    return [name.strip() for name in text.split(",") if name.strip()] or [text]
