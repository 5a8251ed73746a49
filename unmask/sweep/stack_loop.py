"""Work off runs in stacks that share a forward pass, with fewer at a time when memory runs out.

Every run is claimed before it is trained, so that several processes may work on one sweep: each
takes what no other has, and waits for what others have in case they die.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch

from unmask.errors import is_out_of_memory
from unmask.ranks import Ranks
from unmask.results.run import Run
from unmask.sweep.job import Job
from unmask.sweep.locks import Claim

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
                elif not _fits_in_memory(stack, work):
                    self.width = len(stack) // 2
                    self.job.console.print(
                        f"warning: out of memory; runs per forward pass from here: {self.width}"
                    )
                    _free_cached_memory()

    @contextmanager
    def _claimed(self, pending: Callable[[], Sequence[Run]]) -> Iterator[Stack]:
        """A stack of pending runs that no other process has; empty when others have them all."""
        with ExitStack() as claims:
            stack = Stack(self.job, pending, claims)
            stack.extend(stack.claim(self.width))
            yield stack


def _fits_in_memory(stack: Stack, work: Callable[[Stack], None]) -> bool:
    """Do a stack; False when memory ran out and a smaller one is worth a try.

    A function of its own because the tensors of the stack live as long as the exception.
    """
    try:
        work(stack)
    except Exception as error:
        # Processes that train together are out of step by now.
        if len(stack) == 1 or Ranks.here().size > 1 or not is_out_of_memory(error):
            raise
        return False
    return True


def _free_cached_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
