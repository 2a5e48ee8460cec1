"""One recommendation at a time, where that costs least, and none that would come too late.

A request that joins a queue longer than the deadline would wait, be given up, and have kept others
waiting. So the queue is bounded by time: by what a computation took lately, which depends on the
size of the catalogue.

A short computation runs in the event loop, which looks at its sockets after each one. Handing it to
a thread and back would cost a good part of it, and each of a model's operations gives up the
interpreter, so that beside a busy event loop a thread waits for it some forty times.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from serving.worker.errors import Busy

T = TypeVar("T")

# Of the deadline; the rest is for reading the history, and for computations slower than the mean.
QUEUE_SHARE = 0.5
IN_PLACE_SECONDS = 0.01
WEIGHT = 0.1  # of the newest computation in the moving mean


class Queue:
    """The computations of one worker, one after another.

    Args:
        executor: of one thread.
        deadline: seconds that a request may take.
    """

    def __init__(self, executor: Executor, deadline: float) -> None:
        self._executor = executor
        self._longest_wait = QUEUE_SHARE * deadline
        self._mean_seconds: float | None = None  # not known before the first one
        self._taken = 0
        self._turn = asyncio.Lock()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from when a request is admitted until it is answered.

        Raises:
            Busy: whoever came now would wait too long.
        """
        if self._taken * (self._mean_seconds or 0.0) > self._longest_wait:
            raise Busy
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, compute: Callable[[], T], timeout: float) -> T:
        """The result of `compute`, in the event loop or, if that would hold it up, in the thread.

        Raises:
            TimeoutError: it did not come from the thread within `timeout` seconds.
        """

        def timed() -> T:
            started = perf_counter()
            try:
                return compute()
            finally:
                self._learn(perf_counter() - started)

        if self._is_short():
            async with self._turn:
                if self._is_short():  # still, after waiting
                    answer = timed()
                    await asyncio.sleep(0)
                    return answer
        running = asyncio.get_running_loop().run_in_executor(self._executor, timed)
        return await asyncio.wait_for(running, timeout)

    def _is_short(self) -> bool:
        return self._mean_seconds is not None and self._mean_seconds < IN_PLACE_SECONDS

    def _learn(self, seconds: float) -> None:
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean + WEIGHT * (seconds - mean)
