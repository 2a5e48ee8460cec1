"""The queue is as long as the deadline allows, and those who wait are computed together."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from serving.worker import admission
from serving.worker.admission import Queue
from serving.worker.errors import Busy

DEADLINE = 0.2


def each(compute: Callable[[Any], Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """A batch computed one by one."""
    return lambda jobs: [compute(job) for job in jobs]


async def answer(queue: Queue, job: Any) -> float:
    """Seconds until the answer."""
    started = time.perf_counter()
    with queue.place():
        await queue.run(job)
    return time.perf_counter() - started


async def burst(queue: Queue, size: int, job: Any) -> list[float | BaseException]:
    return await asyncio.gather(*(answer(queue, job) for _ in range(size)), return_exceptions=True)


def test_slow_computations_are_refused_before_they_would_be_late():
    async def main() -> list[float | BaseException]:
        with ThreadPoolExecutor(1) as executor:
            queue = Queue(each(time.sleep), executor, DEADLINE)
            for _ in range(30):
                await answer(queue, 0.02)  # it learns what one takes
            return await burst(queue, 30, 0.02)

    outcomes = asyncio.run(main())
    answered = [outcome for outcome in outcomes if isinstance(outcome, float)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, Busy)]
    assert len(answered) + len(refused) == 30  # none was late
    assert 3 <= len(answered) <= 7  # half the deadline: about five computations
    assert max(answered) < DEADLINE


def test_fast_computations_are_all_answered():
    async def main() -> list[float | BaseException]:
        with ThreadPoolExecutor(1) as executor:
            return await burst(Queue(each(time.sleep), executor, DEADLINE), 30, 0.001)

    assert all(isinstance(outcome, float) for outcome in asyncio.run(main()))


def test_short_computations_stay_in_the_event_loop_and_slow_ones_leave_it():
    async def main() -> list[bool]:
        here = threading.get_ident()

        def in_place(seconds: float) -> bool:
            time.sleep(seconds)
            return threading.get_ident() == here

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(each(in_place), executor, 1)
            return [await queue.run(seconds) for seconds in (0, 0, 0, 0.2, 0, 0)]

    # Nothing is known before the first one; the slow one was not known to be slow.
    assert asyncio.run(main()) == [False, True, True, True, False, False]


def test_those_who_wait_are_computed_together(monkeypatch):
    monkeypatch.setattr(admission, "IN_PLACE_SECONDS", 1.0)  # however slow the machine

    async def main() -> list[int]:
        batches: list[int] = []

        def compute(jobs: Sequence[int]) -> list[int]:
            batches.append(len(jobs))
            return [job * job for job in jobs]

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(compute, executor, 10)
            await answer(queue, 0)
            found = await asyncio.gather(*(queue.run(job) for job in range(40)))
        assert found == [job * job for job in range(40)]
        return batches

    assert asyncio.run(main()) == [1, 32, 8]


def test_a_batch_takes_a_share_of_the_deadline(monkeypatch):
    monkeypatch.setattr(admission, "BATCH_SHARE", 0.002)  # the deadline itself is never near

    async def main() -> list[int]:
        batches: list[int] = []

        def compute(jobs: Sequence[float]) -> list[None]:
            batches.append(len(jobs))
            time.sleep(sum(jobs))
            return [None] * len(jobs)

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(compute, executor, 10)
            await asyncio.gather(*(queue.run(0.004) for _ in range(12)))
        return batches

    assert max(asyncio.run(main())) <= 5  # of at least 4 ms each, in 20 ms


def test_the_event_loop_lives_between_batches(monkeypatch):
    monkeypatch.setattr(admission, "BATCH_SHARE", 0.002)

    async def main() -> tuple[int, int]:
        beats = batches = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        def compute(jobs: Sequence[None]) -> list[None]:
            nonlocal batches
            batches += 1
            time.sleep(0.004 * len(jobs))
            return [None] * len(jobs)

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(compute, executor, 10)
            await answer(queue, None)
            heart = asyncio.create_task(beat())
            await asyncio.gather(*(queue.run(None) for _ in range(30)))
            heart.cancel()
        return beats, batches

    beats, batches = asyncio.run(main())
    assert beats >= batches > 5  # of at most 5 jobs of at least 4 ms, in 20 ms


def test_a_place_is_free_again_after_a_failure():
    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            goes_on = threading.Event()
            slow = Queue(each(lambda _: goes_on.wait()), executor, 0.02)
            with pytest.raises(TimeoutError), slow.place():
                await slow.run(None)
            goes_on.set()
            broken = Queue(each(lambda number: 1 / number), executor, 10)
            for _ in range(3):
                with pytest.raises(ZeroDivisionError), broken.place():
                    await broken.run(0)
            await answer(broken, 1)

    asyncio.run(main())


def test_the_failure_of_one_is_not_that_of_the_others():
    async def main() -> list[Any]:
        def compute(jobs: Sequence[int]) -> list[int | Exception]:
            return [ValueError(str(job)) if job == 2 else job for job in jobs]

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(compute, executor, 10)
            return await asyncio.gather(*map(queue.run, range(4)), return_exceptions=True)

    first, second, failed, last = asyncio.run(main())
    assert [first, second, last] == [0, 1, 3]
    assert isinstance(failed, ValueError)
