"""The queue is as long as the deadline allows, by what computations take."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serving.worker.admission import Queue
from serving.worker.errors import Busy

DEADLINE = 0.2


async def answer(queue: Queue, seconds: float) -> float:
    """Seconds until the answer."""
    started = time.perf_counter()
    with queue.place():
        await queue.run(lambda: time.sleep(seconds), DEADLINE)
    return time.perf_counter() - started


async def burst(queue: Queue, size: int, seconds: float) -> list[float | BaseException]:
    return await asyncio.gather(
        *(answer(queue, seconds) for _ in range(size)), return_exceptions=True
    )


def test_slow_computations_are_refused_before_they_would_be_late():
    async def main() -> list[float | BaseException]:
        with ThreadPoolExecutor(1) as executor:
            queue = Queue(executor, DEADLINE)
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
            return await burst(Queue(executor, DEADLINE), 30, 0.001)

    assert all(isinstance(outcome, float) for outcome in asyncio.run(main()))


def test_short_computations_stay_in_the_event_loop_and_slow_ones_leave_it():
    async def main() -> list[bool]:
        here = threading.get_ident()
        with ThreadPoolExecutor(1) as executor:
            queue = Queue(executor, DEADLINE)

            def in_place(seconds: float) -> bool:
                time.sleep(seconds)
                return threading.get_ident() == here

            return [await queue.run(lambda s=s: in_place(s), 1) for s in (0, 0, 0, 0.2, 0, 0)]

    # Nothing is known before the first one; the slow one was not known to be slow.
    assert asyncio.run(main()) == [False, True, True, True, False, False]


def test_the_event_loop_lives_between_short_computations():
    async def main() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        with ThreadPoolExecutor(1) as executor:
            queue = Queue(executor, DEADLINE)
            await answer(queue, 0)
            heart = asyncio.create_task(beat())
            await burst(queue, 30, 0.001)
            heart.cancel()
        return beats

    assert asyncio.run(main()) >= 30


def test_a_place_is_free_again_after_a_failure():
    async def main() -> None:
        with ThreadPoolExecutor(1) as executor:
            queue = Queue(executor, DEADLINE)
            for _ in range(3):
                with pytest.raises(TimeoutError), queue.place():
                    await queue.run(lambda: time.sleep(0.05), 0.001)
                with pytest.raises(ZeroDivisionError), queue.place():
                    await queue.run(lambda: 1 / 0, DEADLINE)
            await asyncio.sleep(0.1)
            await answer(queue, 0.001)

    asyncio.run(main())
