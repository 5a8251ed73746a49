"""Guidelines for labels: what is known about each, and what of it one instruction shows.

A scheme holds variants of a label's name and description, and representative examples, five that
have it, five that have not, and further candidates. In training an instruction draws from it and
may hide names behind made-up ones, so that only the guidelines say what is meant; in evaluation
the first of everything is shown and nothing is hidden. The paper gives no rates: ours are
settings.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from unmask.instruct.examples import Entity, Event, IEExample, Relation
from unmask.instruct.hum_schema import Shown
from unmask.instruct.labels import LabelSet

NUM_EXAMPLES = 5


@dataclass(frozen=True)
class Shot:
    """An example of a label: a text and what is to be answered for it; nothing in a negative."""

    text: str
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Scheme:
    """What is known about a label. `confusable` names labels that are easily taken for it."""

    names: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ()
    positives: tuple[Shot, ...] = ()
    negatives: tuple[Shot, ...] = ()
    candidates: tuple[Shot, ...] = ()
    confusable: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    """What is said about the roles of an event."""


@dataclass(frozen=True)
class Rates:
    """How often each kind of guideline is shown where there is one."""

    description: float = 0.75
    variant: float = 0.5
    mask: float = 0.5
    example: float = 0.5


def write_schemes(schemes: Mapping[str, Scheme], path: Path) -> None:
    """Schemes as the JSON file that `read_schemes` reads."""
    records = {
        name: {
            key: [[shot.text, list(shot.values)] for shot in value]
            if key in ("positives", "negatives", "candidates")
            else (dict(value) if key == "roles" else list(value))
            for key, value in vars(scheme).items()
        }
        for name, scheme in schemes.items()
    }
    path.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


@lru_cache(maxsize=8)
def read_schemes(path: str) -> Mapping[str, Scheme]:
    """Schemes by natural label from a JSON file; none for an empty path.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is of another form, naming the label.
    """
    if not path:
        return {}
    try:
        records = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file of schemes at {path}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(records, dict):
        raise ValueError(f"{path} must hold one JSON object from label to its scheme")
    return {label: _scheme(path, label, record) for label, record in records.items()}


def _scheme(path: str, label: str, record: Any) -> Scheme:
    try:
        shots = {
            key: tuple(Shot(str(text), tuple(values)) for text, values in record.get(key, ()))
            for key in ("positives", "negatives", "candidates")
        }
        names, descriptions, confusable = (
            tuple(map(str, record.get(key, ()))) for key in ("names", "descriptions", "confusable")
        )
        return Scheme(
            names,
            descriptions,
            confusable=confusable,
            roles=dict(record.get("roles", {})),
            **shots,
        )
    except (TypeError, ValueError, AttributeError):
        raise ValueError(
            f"{path}: the scheme of {label!r} must be an object with lists names, descriptions, "
            "confusable, and lists positives, negatives, candidates of [text, [values]]"
        ) from None


def collect_schemes(
    examples: Sequence[IEExample], labels: LabelSet, task: str, seed: int = 0
) -> dict[str, Scheme]:
    """Schemes with descriptions and examples from a corpus.

    A label that `labels` has no description of is described by what it most often names, as the
    paper's guidelines also do. Representative are texts whose values for the label occur most
    often, each value once; negatives are texts with other labels before texts with none.
    """
    generator = random.Random(f"{seed}/schemes/{task}")
    order = list(examples)
    generator.shuffle(order)
    valued = [(example.text, label_values(example, labels, task)) for example in order]
    schemes = {}
    for raw in labels.names:
        name = labels.to_natural(raw)
        having = [(text, tuple(found[name])) for text, found in valued if found.get(name)]
        chosen = _representative(having)
        without = sorted(
            (not found, index) for index, (_, found) in enumerate(valued) if not found.get(name)
        )
        described = labels.descriptions.get(raw) or _typical(having)
        schemes[name] = Scheme(
            descriptions=(described,) if described else (),
            positives=tuple(chosen[:NUM_EXAMPLES]),
            negatives=tuple(Shot(valued[index][0]) for _, index in without[:NUM_EXAMPLES]),
            candidates=tuple(chosen[NUM_EXAMPLES : 2 * NUM_EXAMPLES]),
        )
    return schemes


def label_values(example: IEExample, labels: LabelSet, task: str) -> dict[str, list[Any]]:
    """What is to be answered for each label, as in a JSON answer."""
    found: dict[str, list[Any]] = {}
    for item in example.items:
        if task == "NER" and isinstance(item, Entity):
            found.setdefault(labels.to_natural(item.type), []).append(item.text)
        elif task in ("RE", "SPO") and isinstance(item, Relation):
            pair = {"subject": item.head, "object": item.tail}
            found.setdefault(labels.to_natural(item.type), []).append(pair)
        elif task in ("EE", "EET", "EEA") and isinstance(item, Event) and item.trigger:
            found.setdefault(labels.to_natural(item.type), []).append(item.trigger)
    return found


def _typical(having: Sequence[tuple[str, tuple[Any, ...]]]) -> str:
    """The most frequent strings of a label; empty for relations, whose values are pairs."""
    counts = Counter(
        value for _, values in having for value in values if isinstance(value, str)
    ).most_common(NUM_EXAMPLES)
    return f"typical examples: {', '.join(value for value, _ in counts)}" if counts else ""


def _representative(having: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Shot]:
    counts = Counter(json.dumps(value) for _, values in having for value in values)
    ranked = sorted(having, key=lambda one: -max(counts[json.dumps(value)] for value in one[1]))
    chosen, seen = [], set()
    for text, values in ranked:
        keys = {json.dumps(value) for value in values}
        if keys - seen:
            chosen.append(Shot(text, values))
            seen |= keys
    return chosen


def first_of_everything(shown: Shown, scheme: Scheme) -> Shown:
    """A label with its first description, as in evaluation."""
    description = scheme.descriptions[0] if scheme.descriptions else ""
    return replace(shown, description=description, role_descriptions=_roles(shown, scheme))


def draw_guides(
    labels: Sequence[Shown],
    schemes: Mapping[str, Scheme],
    rates: Rates,
    generator: random.Random,
) -> list[Shown]:
    """Labels with a name and a description drawn from their schemes, some names hidden.

    A name is hidden only where a description says what is meant. No two labels are shown alike.
    """
    taken = {one.shown for one in labels}
    made_up = [f"label{number}" for number in range(1, 100)]
    generator.shuffle(made_up)
    drawn = []
    for one in labels:
        scheme = schemes.get(one.name, Scheme())
        described = scheme.descriptions and generator.random() < rates.description
        if described:
            text = generator.choice(scheme.descriptions)
            one = replace(one, description=text, role_descriptions=_roles(one, scheme))
        name = ""
        if described and generator.random() < rates.mask:
            name = made_up.pop() if made_up else ""
        elif scheme.names and generator.random() < rates.variant:
            name = generator.choice(scheme.names)
        if name and name not in taken:
            taken.add(name)
            one = replace(one, shown=name)
        drawn.append(one)
    return drawn


def _roles(shown: Shown, scheme: Scheme) -> tuple[tuple[str, str], ...]:
    return tuple((role, scheme.roles[role]) for role in shown.roles if role in scheme.roles)


def draw_examples(
    labels: Sequence[Shown],
    schemes: Mapping[str, Scheme],
    text: str,
    generator: random.Random | None,
) -> list[dict[str, Any]]:
    """Examples for an instruction: one with and one without a label, never its own text.

    Without a generator the first ones, for evaluation.
    """
    examples = []
    for one in labels:
        scheme = schemes.get(one.name, Scheme())
        for shots in (scheme.positives + scheme.candidates, scheme.negatives):
            usable = [shot for shot in shots if shot.text != text]
            if usable:
                shot = generator.choice(usable) if generator else usable[0]
                output = {one.shown: list(shot.values)}
                examples.append({"input": shot.text, "output": output})
    if generator:
        generator.shuffle(examples)
    return examples[:NUM_EXAMPLES]
