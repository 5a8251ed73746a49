"""Requests of many clients, gathered into batches for one model. Knows no web framework.

The model works in a thread of its own, one batch at a time. Whatever arrives meanwhile waits and
makes up the next batch, so nobody waits for a batch to fill. What waits is bounded: beyond the
bound `submit` refuses at once, which is better than answers that come after the client has gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple


class QueueFull(Exception):
    """More is waiting than the bound allows; try again later."""


class _Request(NamedTuple):
    items: Sequence[Any]
    answer: asyncio.Future[list[Any]]


@dataclass
class Totals:
    """What a batcher has done so far, in items, calls of the model and seconds within them."""

    labelled: int = 0
    refused: int = 0
    failed: int = 0
    batches: int = 0
    seconds: float = 0.0


class MicroBatcher:
    """Calls `work` on the items of all waiting requests together.

    Args:
        work: a list of items to a list of results, in order. Called in one thread.
        max_batch: items per call, unless one request alone has more.
        max_waiting: items that may wait, those being worked on not counted.
    """

    def __init__(
        self, work: Callable[[list[Any]], list[Any]], max_batch: int, max_waiting: int
    ) -> None:
        for name, value in (("max_batch", max_batch), ("max_waiting", max_waiting)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.work = work
        self.max_batch = max_batch
        self.max_waiting = max_waiting
        self.num_waiting = 0
        self.totals = Totals()
        self._requests: deque[_Request] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="labeler")

    async def __aenter__(self) -> MicroBatcher:
        self._task = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while self._requests:
            self._requests.popleft().answer.cancel()
        self._thread.shutdown()

    async def submit(self, items: Sequence[Any]) -> list[Any]:
        """The results for `items`, once they are there.

        Raises:
            QueueFull: when too much is waiting; nothing was queued.
        """
        if not items:
            return []
        if self.num_waiting + len(items) > self.max_waiting:
            self.totals.refused += len(items)
            raise QueueFull
        request = _Request(items, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self.num_waiting += len(items)
        self._arrived.set()
        return await request.answer

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._next_batch()
            if batch:
                await self._answer(batch)

    def _next_batch(self) -> list[_Request]:
        """Requests from the front of the queue; those whose client has gone are left out."""
        batch, size = [], 0
        while self._requests:
            if batch and size + len(self._requests[0].items) > self.max_batch:
                break
            request = self._requests.popleft()
            self.num_waiting -= len(request.items)
            if not request.answer.cancelled():
                batch.append(request)
                size += len(request.items)
        if not self._requests:
            self._arrived.clear()
        return batch

    async def _answer(self, batch: list[_Request]) -> None:
        items = [item for request in batch for item in request.items]
        loop = asyncio.get_running_loop()
        started, self.totals.batches = loop.time(), self.totals.batches + 1
        try:
            results = iter(await loop.run_in_executor(self._thread, self.work, items))
        except asyncio.CancelledError:
            for request in batch:
                request.answer.cancel()
            raise
        except Exception as error:
            self.totals.failed += len(items)
            # To everyone in the batch: nobody may wait for ever, and the next batch goes on.
            for request in batch:
                if not request.answer.done():
                    request.answer.set_exception(error)
            return
        finally:
            self.totals.seconds += loop.time() - started
        self.totals.labelled += len(items)
        for request in batch:
            own = [next(results) for _ in request.items]
            if not request.answer.done():
                request.answer.set_result(own)
