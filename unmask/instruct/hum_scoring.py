"""Hum's scores by task: exact tuples as multisets, or the share of right answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from unmask.instruct.examples import Event, Item
from unmask.instruct.metrics import MicroF1, accuracy

ACCURACY = frozenset({"MRC", "TC", "IG"})


def score_task(task: str, sides: Sequence[tuple[Sequence[Item], Sequence[Item]]]) -> dict[str, Any]:
    """Scores from (gold, found) of each query.

    EE counts (type, trigger), and (type, text, role) under `arguments`; EEA the latter only.
    """
    if task in ACCURACY:
        return accuracy([list(gold) == list(found) for gold, found in sides])
    if task == "EEA":
        return _counted((_arguments(gold), _arguments(found)) for gold, found in sides)
    if task != "EE":
        return _counted(sides)
    return {
        **_counted((_triggers(gold), _triggers(found)) for gold, found in sides),
        "arguments": _counted((_arguments(gold), _arguments(found)) for gold, found in sides),
    }


def _counted(sides: Iterable[tuple[Iterable[Any], Iterable[Any]]]) -> dict[str, float]:
    metric = MicroF1()
    for gold, found in sides:
        metric.update(gold, found)
    return metric.compute()


def _triggers(items: Iterable[Item]) -> list[tuple[str, str | None]]:
    return [(one.type, one.trigger) for one in items if isinstance(one, Event)]


def _arguments(items: Iterable[Item]) -> list[tuple[str, str, str]]:
    events = (one for one in items if isinstance(one, Event))
    return [(event.type, one.text, one.role) for event in events for one in event.arguments]
