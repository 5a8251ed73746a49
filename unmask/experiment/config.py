"""config.json of an experiment: variants, each with commands and claims.

full   the paper's models and data, for whoever has both
open   SmolLM2-135M and corpora that anyone may have
small  minutes on a CPU; what the continual check runs

Among the commands of a variant may stand, beside a command as a list of words:

{"for": {"seed": ["120", "121"]}, "commands": [...]}   those commands for every value, of several
                                                       names for every combination; "{seed}" in
                                                       their words stands for the value
{"of": "figure1_configurations"}                       those of another folder's same variant, so
                                                       that both train once
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

VARIANTS = ("full", "open", "small")
PROGRAMS = ("sweep", "instruct", "rdrr", "scale", "text")
DATA, OUT = "{data}", "{out}"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Variant:
    """What one variant does.

    `models` must be at hand for it. A command is a program of this package and its arguments, in
    which "{data}" stands for --data-dir and "{out}" for the folder of the results.
    """

    name: str
    models: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    claims: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Experiment:
    """One folder of `experiments/`."""

    name: str
    title: str
    variants: dict[str, Variant]

    @classmethod
    def read(cls, folder: Path) -> Experiment:
        """Read the config.json of a folder.

        Raises:
            FileNotFoundError: when there is none.
            ValueError: naming the file, for one that says what nobody understands.
        """
        path = folder / CONFIG_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no config.json")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            variants = {
                name: Variant(
                    name,
                    tuple(part.get("models", ())),
                    tuple(_commands(part["commands"], name, folder)),
                    tuple(part.get("claims", ())),
                )
                for name, part in values["variants"].items()
            }
            experiment = cls(folder.name, values["title"], variants)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no configuration of an experiment: {error!r}") from None
        for variant in variants.values():
            _check(path, variant)
        return experiment


def _commands(entries: Sequence[Any], variant: str, folder: Path) -> Iterator[tuple[str, ...]]:
    """The commands that the entries of a variant stand for, in order."""
    for entry in entries:
        if not isinstance(entry, dict):
            yield tuple(entry)
        elif "of" in entry:
            yield from Experiment.read(folder.parent / entry["of"]).variants[variant].commands
        else:
            for values in product(*entry["for"].values()):
                filled = dict(zip(entry["for"], values, strict=True))
                for command in entry["commands"]:
                    yield tuple(_with_values(word, filled) for word in command)


def _with_values(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _check(path: Path, variant: Variant) -> None:
    if variant.name not in VARIANTS:
        raise ValueError(f"{path}: unknown variant {variant.name!r}; known are {VARIANTS}")
    for command in variant.commands:
        if not command or command[0] not in PROGRAMS:
            raise ValueError(
                f"{path}, {variant.name}: a command must begin with one of {', '.join(PROGRAMS)}, "
                f"got {list(command)[:1]}"
            )
