"""Which recipes a report shows, when a search tried many.

A search over learning rate or rank leaves recipes that were tried with one configuration only.
Nothing can be compared within such a recipe, and a table and a figure for each of forty would
bury the answer; they stay in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

from unmask.results.groups import Group, group_results
from unmask.results.run import RunResult


def worth_showing(results: Sequence[RunResult]) -> tuple[list[RunResult], list[str]]:
    """Results without the recipes of one configuration, where others have more; and notes.

    The notes say what was left out.
    """
    groups = group_results(results)
    compared = {_place(group) for group in groups if len(group.codes) > 1}
    dropped = [group for group in groups if len(group.codes) == 1 and _place(group) in compared]
    if not dropped:
        return list(results), []
    ids = {result.run.id for group in dropped for result in group.results}
    recipes = f"{len(dropped)} recipe" + ("s were" if len(dropped) > 1 else " was")
    note = (
        f"{recipes} tried with one configuration only, with which nothing can be compared; "
        f"{len(ids)} results of that kind are in the ledger, not shown, and not counted where "
        "p-values are corrected for the choice"
    )
    return [result for result in results if result.run.id not in ids], [note]


def _place(group: Group) -> tuple[str, str, str]:
    return group.task, group.data_fingerprint, group.backbone
