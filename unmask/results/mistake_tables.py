"""Tables of mistakes: how many of which kind, which spans are found, which labels are confused.

Counts are means per run, so configurations with different numbers of seeds can be compared.
"""

from __future__ import annotations

from unmask.analysis.mistakes import KINDS
from unmask.results.kept_mistakes import MistakesFound
from unmask.results.tables import NOT_MEASURED, Table

MAX_CONFUSIONS = 12


def kinds_table(found: MistakesFound) -> Table:
    """Correct and wrong spans per configuration."""
    rows = []
    for name, one in found.breakdowns.items():
        counts = [one.num_correct, *(one.kinds[kind] for kind in KINDS)]
        rows.append((name, *(_per_run(count, one.num_runs) for count in counts)))
    return Table(
        f"Spans on {found.split} by what became of them, mean per run",
        ("configuration", "correct", *KINDS),
        rows,
        marked=frozenset({0}),
    )


def recall_table(found: MistakesFound) -> Table:
    """Recall by what the gold span is like, one column per configuration."""
    first = found.breakdowns[found.chosen]
    rows: list[tuple[str, ...]] = []
    ruled: set[int] = set()
    for question, answers in first.recall.items():
        for number, (answer, (_, total)) in enumerate(answers.items()):
            if number == 0 and rows:
                ruled.add(len(rows))
            cells = [_share(one.recall[question].get(answer)) for one in found.breakdowns.values()]
            rows.append((f"{question}: {answer}", str(total // first.num_runs), *cells))
    return Table(
        f"Recall on {found.split} by what the gold span is like",
        ("gold spans", "how many", *found.breakdowns),
        rows,
        ruled=frozenset(ruled),
    )


def confusions_table(found: MistakesFound) -> Table | None:
    """Labels that are taken for others at the right boundaries; None when none are."""
    one = found.breakdowns[found.chosen]
    rows = [
        (gold, predicted, _per_run(count, one.num_runs))
        for (gold, predicted), count in list(one.confusions.items())[:MAX_CONFUSIONS]
    ]
    caption = f"Labels confused by {found.chosen} at the right boundaries, mean per run"
    return Table(caption, ("gold", "taken for", "spans"), rows) if rows else None


def _per_run(count: int, num_runs: int) -> str:
    mean = count / num_runs
    return str(round(mean)) if num_runs == 1 else f"{mean:.1f}"


def _share(part: tuple[int, int] | None) -> str:
    return f"{part[0] / part[1]:.3f}" if part and part[1] else NOT_MEASURED
