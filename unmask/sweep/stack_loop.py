"""Work off runs in stacks that share a forward pass, with fewer at a time when memory runs out.

Every run is claimed before it is trained, so that several processes may work on one sweep: each
takes what no other has, and waits for what others have in case they die.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from unmask.ranks import Ranks
from unmask.results.run import Run
from unmask.sweep.job import Job
from unmask.sweep.locks import Claim
from unmask.training.out_of_memory import fits_in_memory

SECONDS_BETWEEN_LOOKS = 0.5
"""While other processes have all that is left."""


class Stack(list[Run]):
    """Runs that this process has claimed; when one has ended it may claim another."""

    def __init__(self, job: Job, pending: Callable[[], Sequence[Run]], claims: ExitStack) -> None:
        super().__init__()
        self._job = job
        self._pending = pending
        self._claims = claims
        self._had: set[str] = set()

    def claim(self, count: int, fits: Callable[[Run], bool] = lambda run: True) -> list[Run]:
        """Up to `count` pending runs that fit and nobody has, claimed until the stack is done."""
        fitting = [run for run in self._pending() if run.id not in self._had and fits(run)]
        taken = Ranks.here().agree(partial(self._take, fitting, count))
        self._had |= {run.id for run in taken}
        # Asked again: another may have finished one between our look and our claim.
        left = {run.id for run in self._pending()} if taken else set()
        return [run for run in taken if run.id in left]

    def _take(self, runs: Sequence[Run], count: int) -> list[Run]:
        taken: list[Run] = []
        for run in runs:
            if len(taken) == count:
                break
            claim = Claim(self._job.settings.out / "locks" / f"{run.id}.lock")
            if claim.take():
                self._claims.callback(claim.release)
                taken.append(run)
        return taken


class StackLoop:
    """Remembers how many runs fit; one halving instead of a crash when the estimate was wrong."""

    def __init__(self, job: Job, width: int) -> None:
        self.job = job
        self.width = width

    def work_off(self, pending: Callable[[], Sequence[Run]], work: Callable[[Stack], None]) -> None:
        """Call `work` on stacks of what is pending until nothing is.

        Args:
            pending: what is still to be done; asked again before every stack, so that nothing is
                done twice, also when memory ran out in the middle of one.
            work: does a stack, and takes its runs off what is pending.
        """
        while pending():
            with self._claimed(pending) as stack:
                if not stack:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                elif not fits_in_memory(partial(work, stack), len(stack)):
                    self.width = len(stack) // 2
                    self.job.console.print(
                        f"warning: out of memory; runs per forward pass from here: {self.width}"
                    )

    @contextmanager
    def _claimed(self, pending: Callable[[], Sequence[Run]]) -> Iterator[Stack]:
        """A stack of pending runs that no other process has; empty when others have them all."""
        with ExitStack() as claims:
            stack = Stack(self.job, pending, claims)
            stack.extend(stack.claim(self.width))
            yield stack
