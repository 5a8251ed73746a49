from __future__ import annotations

import asyncio
import threading

import pytest

from unmask.plugins.batching import MicroBatcher, QueueFull


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, timeout=20))


class Worker:
    """Doubles numbers; `hold` keeps it from finishing."""

    def __init__(self):
        self.batches: list[list[int]] = []
        self.started = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items):
        self.batches.append(list(items))
        self.started.set()
        assert self.go.wait(timeout=20)
        return [2 * item for item in items]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


def test_every_request_gets_its_own_results():
    async def scenario():
        async with MicroBatcher(Worker(), max_batch=7, max_waiting=1000) as batcher:
            requests = [list(range(n, n + n % 4)) for n in range(100)]
            answers = await asyncio.gather(*(batcher.submit(items) for items in requests))
            assert answers == [[2 * item for item in items] for items in requests]
            assert batcher.num_waiting == 0

    run(scenario())


def test_what_arrives_while_the_model_works_makes_up_the_next_batches():
    async def scenario():
        worker = Worker()
        worker.go.clear()
        async with MicroBatcher(worker, max_batch=3, max_waiting=10) as batcher:
            first = asyncio.create_task(batcher.submit([0]))
            await until(worker.started.is_set)
            rest = [asyncio.create_task(batcher.submit([n])) for n in range(1, 6)]
            await until(lambda: batcher.num_waiting == 5)
            worker.go.set()
            await asyncio.gather(first, *rest)
        assert worker.batches == [[0], [1, 2, 3], [4, 5]]

    run(scenario())


def test_beyond_the_bound_nothing_is_queued_and_the_rest_is_answered():
    async def scenario():
        worker = Worker()
        worker.go.clear()
        async with MicroBatcher(worker, max_batch=8, max_waiting=4) as batcher:
            first = asyncio.create_task(batcher.submit([0]))
            await until(worker.started.is_set)
            waiting = asyncio.create_task(batcher.submit([1, 2, 3]))
            await until(lambda: batcher.num_waiting == 3)
            with pytest.raises(QueueFull):
                await batcher.submit([4, 5])
            assert batcher.num_waiting == 3
            worker.go.set()
            assert await first == [0]
            assert await waiting == [2, 4, 6]
            assert await batcher.submit([4, 5]) == [8, 10]

    run(scenario())


def test_a_failure_reaches_everyone_in_the_batch_and_the_next_batch_goes_on():
    def work(items):
        if 13 in items:
            raise ArithmeticError("thirteen")
        return items

    async def scenario():
        async with MicroBatcher(work, max_batch=2, max_waiting=10) as batcher:
            both = await asyncio.gather(
                batcher.submit([13]), batcher.submit([1]), return_exceptions=True
            )
            assert [str(error) for error in both] == ["thirteen", "thirteen"]
            assert await batcher.submit([2]) == [2]

    run(scenario())


def test_a_client_that_left_is_not_worked_for():
    async def scenario():
        worker = Worker()
        worker.go.clear()
        async with MicroBatcher(worker, max_batch=8, max_waiting=8) as batcher:
            first = asyncio.create_task(batcher.submit([0]))
            await until(worker.started.is_set)
            gone = asyncio.create_task(batcher.submit([1]))
            stays = asyncio.create_task(batcher.submit([2]))
            await until(lambda: batcher.num_waiting == 2)
            gone.cancel()
            worker.go.set()
            assert await stays == [4]
            assert await first == [0]
        assert worker.batches == [[0], [2]]

    run(scenario())


def test_leaving_gives_up_what_waits_instead_of_hanging():
    async def scenario():
        worker = Worker()
        worker.go.clear()
        async with MicroBatcher(worker, max_batch=1, max_waiting=8) as batcher:
            tasks = [asyncio.create_task(batcher.submit([n])) for n in range(3)]
            await until(worker.started.is_set)
            worker.go.set()
            await tasks[0]
            worker.go.clear()
            await until(lambda: len(worker.batches) == 2)
            worker.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == [0]
        assert all(
            r == [2 * n] or isinstance(r, asyncio.CancelledError) for n, r in enumerate(results)
        )

    run(scenario())


@pytest.mark.parametrize("name", ["max_batch", "max_waiting"])
def test_a_bound_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MicroBatcher(list, **{"max_batch": 1, "max_waiting": 1, name: 0})
