"""How much of what: Hum's shares of tasks and strategies, drawing by them, and counting.

Which strategies made an instruction stands at the end of its query's id, after an "@".
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from unmask.instruct.prompts import Query

GUIDELINES, RULES, FORMATS = "guidelines", "rules", "formats"

TASK_COUNTS: dict[str, int] = {
    "NER": 656_833,
    "RE": 816_287,
    "SPO": 304_522,
    "EE": 128_107,
    "EEA": 51_623,
    "EET": 78_005,
    "MRC": 66_747,
    "TC": 23_371,
    "KGE": 335_509,
    "IG": 239_111,
    "OpenIE": 108_091,
}
"""Instructions by task (Table 16). They add up to 4,626 fewer than the text says."""

STRATEGY_COUNTS: dict[str, int] = {GUIDELINES: 1_152_470, RULES: 34_770, FORMATS: 108_091}
NUM_COMPOUND = 1_261_658
"""Compound instructions, and how many of them hold each strategy: some hold two."""

SECOND_RATE = sum(STRATEGY_COUNTS.values()) / NUM_COMPOUND - 1


def draw_strategies(
    rate: float, possible: Collection[str], generator: random.Random
) -> tuple[str, ...]:
    """The strategies of one instruction: none, one, or seldom two, by the paper's counts.

    Strategies that are not possible give their share to the others.
    """
    names = [name for name in STRATEGY_COUNTS if name in possible]
    if generator.random() >= rate or not names:
        return ()
    first = _weighted(names, generator)
    rest = [name for name in names if name != first]
    if rest and generator.random() < SECOND_RATE:
        return first, _weighted(rest, generator)
    return (first,)


def _weighted(names: Sequence[str], generator: random.Random) -> str:
    return generator.choices(names, [STRATEGY_COUNTS[name] for name in names])[0]


def mark(query_id: str, strategies: Sequence[str]) -> str:
    """A query's id that tells its strategies.

    >>> mark("a#NER0", ["rules", "formats"])
    'a#NER0@rules+formats'
    """
    return f"{query_id}@{'+'.join(strategies)}" if strategies else query_id


def strategies_of(query: Query) -> tuple[str, ...]:
    """The strategies that made a query; none for a basic one."""
    _, _, marked = query.id[len(query.example_id) :].partition("@")
    return tuple(marked.split("+")) if marked else ()


def task_quotas(total: int, counts: Mapping[str, int] = TASK_COUNTS) -> dict[str, int]:
    """Whole numbers by task that add up to `total`, by largest remainders.

    >>> task_quotas(100)["NER"], sum(task_quotas(101).values())
    (23, 101)
    """
    whole = sum(counts.values())
    quotas = {task: total * count // whole for task, count in counts.items()}
    remainders = sorted(counts, key=lambda task: -(total * counts[task] % whole))
    for task in remainders[: total - sum(quotas.values())]:
        quotas[task] += 1
    return quotas


def mix(
    queries: Iterable[Query],
    total: int,
    generator: random.Random,
    counts: Mapping[str, int] = TASK_COUNTS,
) -> tuple[list[Query], dict[str, int]]:
    """At most `total` queries in the shares of `counts`, shuffled, and what was short by task.

    Shares are taken over the tasks that occur. Nothing is drawn twice.
    """
    by_task: dict[str, list[Query]] = {}
    for query in queries:
        by_task.setdefault(query.task, []).append(query)
    present = {task: count for task, count in counts.items() if task in by_task}
    chosen: list[Query] = []
    short: dict[str, int] = {}
    for task, quota in task_quotas(total, present).items() if present else ():
        found = by_task[task]
        chosen += generator.sample(found, min(quota, len(found)))
        if quota > len(found):
            short[task] = quota - len(found)
    generator.shuffle(chosen)
    return chosen, short


def statistics(queries: Iterable[Query]) -> dict[str, Any]:
    """Counts and shares of what was synthesised: tasks, strategies, forms, collisions."""
    tasks: Counter[str] = Counter()
    strategies: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    num_compound = num_collisions = num_empty = 0
    for query in queries:
        used = strategies_of(query)
        tasks[query.task] += 1
        strategies.update(used)
        if FORMATS in used:
            forms[query.about] += 1
        num_compound += bool(used)
        num_collisions += bool(query.collision)
        num_empty += not query.items
    total = tasks.total()
    return {
        "num_queries": total,
        "num_compound": num_compound,
        "compound_share": num_compound / total if total else 0.0,
        "num_without_items": num_empty,
        "num_collisions": num_collisions,
        "tasks": dict(tasks.most_common()),
        "task_shares": {task: count / total for task, count in tasks.most_common()},
        "strategies": {name: strategies[name] for name in STRATEGY_COUNTS},
        "forms": dict(forms.most_common()),
    }
