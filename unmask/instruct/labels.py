"""Raw labels and the names that people, and models, can read.

The map from raw to natural names is data, not code: give your own in a JSON file. What is not in
it is named by rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unmask.instruct.label_names import WELL_KNOWN


@dataclass(frozen=True)
class LabelSet:
    """The labels of a task: raw names in order, and what is known about each.

    `natural` maps raw to natural names and is completed by `naturalise`. `roles` maps event
    types to the roles of their arguments.
    """

    names: tuple[str, ...]
    natural: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _raw: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"labels are named twice in {self.names}; name each once")
        complete = {name: self.natural.get(name) or naturalise(name) for name in self.names}
        object.__setattr__(self, "natural", complete)
        for raw in reversed(self.names):
            self._raw[complete[raw].casefold()] = raw

    @property
    def natural_names(self) -> tuple[str, ...]:
        """Natural names in the order of `names`, each once."""
        return tuple(dict.fromkeys(self.natural[name] for name in self.names))

    def to_natural(self, raw: str) -> str:
        """The natural name of a raw label; a label that is not in the set is named by rule."""
        return self.natural.get(raw) or naturalise(raw)

    def to_raw(self, natural: str) -> str | None:
        """The first raw label with this natural name, whatever its case; None if there is none."""
        return self._raw.get(natural.strip().casefold())


def naturalise(name: str) -> str:
    """A raw label as words: last part of a path, separators as spaces, camel case split.

    >>> naturalise("people person place_of_birth"), naturalise("/location/country/capital")
    ('people person place of birth', 'capital')
    >>> naturalise("astronomicalobject"), naturalise("creative-work"), naturalise("PER")
    ('astronomical object', 'creative work', 'person')
    >>> naturalise("PersonName"), naturalise("Life:Be-Born")
    ('person name', 'be born')
    """
    if name in WELL_KNOWN:
        return WELL_KNOWN[name]
    last = re.split(r"[/:]", name.rstrip("/:"))[-1]
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", re.sub(r"[_\-.\s]+", " ", last)).strip()
    return spaced.lower() or name


def read_names(path: Path) -> dict[str, str]:
    """A JSON object of raw to natural names.

    Raises:
        ValueError: when the file is not such an object.
    """
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(names, dict) or not all(isinstance(v, str) and v for v in names.values()):
        raise ValueError(f'{path} must hold one JSON object of names, such as {{"PER": "person"}}')
    return names


def labels_in(types: Iterable[str]) -> LabelSet:
    """The label set of the types that occur, sorted."""
    return LabelSet(tuple(sorted(set(types))))
