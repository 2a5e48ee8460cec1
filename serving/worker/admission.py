"""One forward pass at a time for all who wait, and no place for those who would come too late.

What has queued while the last pass ran is computed as one batch: nobody waits for a batch to fill,
so light load loses nothing, and under load the catalogue is read once for many.

A request that joins a queue longer than the deadline would wait, be given up, and have kept others
waiting. So the queue is bounded by time: by what a list took lately, which depends on the size of
the catalogue and of the batches.

A short computation runs in the event loop, which looks at its sockets after each one. Handing it to
a thread and back would cost a good part of it, and each of a model's operations gives up the
interpreter, so that beside a busy event loop a thread waits for it some forty times.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from time import perf_counter
from typing import Generic, TypeVar

from serving.worker.errors import Busy

Job = TypeVar("Job")
Answer = TypeVar("Answer")

# Of the deadline; the rest is for reading the history, and for computations slower than the mean.
QUEUE_SHARE = 0.5
IN_PLACE_SECONDS = 0.01  # of one job
BATCH_SHARE = 0.25  # of the deadline, that a batch may take: less would keep it from growing
MOST = 32  # jobs of a batch
GATHER_TURNS = 4
"""Of the event loop, in which those who were admitted get from their socket to the queue."""
WEIGHT = 0.1  # of the newest computation in the moving mean


class Queue(Generic[Job, Answer]):
    """The computations of one worker, one batch after another.

    Args:
        compute: an answer, or the exception in its place, for each of some jobs.
        executor: of one thread.
        deadline: seconds that a request may take.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Job]], Sequence[Answer | Exception]],
        executor: Executor,
        deadline: float,
    ) -> None:
        self._compute = compute
        self._executor = executor
        self._deadline = deadline
        self._mean_seconds: float | None = None  # of one job; not known before the first one
        self._taken = 0
        self._waiting: deque[tuple[Job, asyncio.Future[Answer]]] = deque()
        self._working: asyncio.Task[None] | None = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, from when a request is admitted until it is answered.

        Raises:
            Busy: whoever came now would wait too long.
        """
        if self._taken * (self._mean_seconds or 0.0) > QUEUE_SHARE * self._deadline:
            raise Busy
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, job: Job) -> Answer:
        """What `compute` makes of a job, or of it and others that wait.

        Raises:
            TimeoutError: it did not come before the deadline.
            Exception: what `compute` gave in its place.
        """
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((job, answer))
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        return await asyncio.wait_for(answer, self._deadline)

    async def _work(self) -> None:
        try:
            while self._waiting:
                await self._gather()
                batch = [self._waiting.popleft() for _ in range(self._size())]
                batch = [(job, answer) for job, answer in batch if not answer.done()]
                if batch:
                    await self._answer(batch)
                    await asyncio.sleep(0)
        finally:
            self._working = None

    async def _gather(self) -> None:
        """Let those who were admitted reach the queue, while any of them is on the way."""
        for _ in range(GATHER_TURNS):
            if len(self._waiting) >= min(self._taken, MOST):
                return
            await asyncio.sleep(0)

    def _size(self) -> int:
        """How many of those who wait are computed next."""
        mean = self._mean_seconds
        if mean is None:
            return 1
        return min(len(self._waiting), MOST, max(1, int(BATCH_SHARE * self._deadline / mean)))

    async def _answer(self, batch: Sequence[tuple[Job, asyncio.Future[Answer]]]) -> None:
        jobs = [job for job, _ in batch]

        def timed() -> Sequence[Answer | Exception]:
            started = perf_counter()
            try:
                return self._compute(jobs)
            finally:
                self._learn((perf_counter() - started) / len(jobs))

        try:
            if self._is_short():
                found = timed()
            else:
                found = await asyncio.get_running_loop().run_in_executor(self._executor, timed)
        except Exception as error:
            found = [error] * len(jobs)
        for (_, answer), result in zip(batch, found, strict=True):
            if answer.done():  # it was given up
                continue
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    def _is_short(self) -> bool:
        return self._mean_seconds is not None and self._mean_seconds < IN_PLACE_SECONDS

    def _learn(self, seconds: float) -> None:
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean + WEIGHT * (seconds - mean)
