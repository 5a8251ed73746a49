"""The ledger for processes that train together: all see what the first one reads, it alone writes.

With a single process it is the ledger as it is. The one thing that is easy to get wrong: every
process must ask it the same questions in the same order, since they wait for one another.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from unmask.ranks import Ranks
from unmask.results.ledger import Contents, Ledger
from unmask.results.run import RunResult


class AgreedLedger(Ledger):
    """A ledger that the ranks of a process group use in step."""

    def append_run(self, result: RunResult) -> None:
        """As `Ledger.append_run`; nobody goes on before it is written."""
        Ranks.here().agree(partial(super().append_run, result))

    def append_test(self, run_id: str, scores: dict[str, Any]) -> None:
        """As `Ledger.append_test`; nobody goes on before it is written."""
        Ranks.here().agree(partial(super().append_test, run_id, scores))

    def read(self) -> Contents:
        """As `Ledger.read`."""
        return Ranks.here().agree(super().read)
