"""The writing end of the event log: what users did and what they were shown, durable.

The format, and who may change which segment: `feature_repo.event_codec`, `feature_repo.event_log`.
"""

import fcntl
import os
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feature_repo.event_codec import frame, whole_bytes
from feature_repo.event_log import ABANDONED_SECONDS, APPLIED, finished, host_of, segments
from feature_repo.host import this_host
from serving import metrics

SEGMENT_BYTES = 64 << 20
GATHER_SECONDS = 0.05
TOUCH_SECONDS = 30.0
"""How often an idle writer tells other hosts that it lives."""


class LogUnavailable(OSError):
    """The log cannot take records now: the disk is full or failing. Nothing was acknowledged."""


def repair(directory: Path) -> tuple[list[Path], int]:
    """Cut torn tails off the segments whose writer is gone.

    Returns:
        Those segments, oldest first, and the bytes cut.
    """
    cuts = {path: _cut_torn_tail(path) for path in segments(directory)}
    ended = [path for path, cut in cuts.items() if cut is not None]
    return ended, sum(cut or 0 for cut in cuts.values())


def left_elsewhere(directory: Path) -> list[Path]:
    """Segments that writers of other hosts left, repaired, perhaps not in the online history."""
    others = [path for path in segments(directory) if host_of(path) != this_host()]
    return [path for path in unapplied(others) if _cut_torn_tail(path) is not None]


def _cut_torn_tail(path: Path) -> int | None:
    """How many bytes were cut; None where the segment has a writer."""
    with finished(path) as file:
        if file is None:
            return None
        if _marker(path).exists():
            return 0
        content = file.read()
        whole = whole_bytes(content)
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
        return len(content) - whole


def unapplied(ended: list[Path]) -> list[Path]:
    """The finished segments whose events may be missing in the online history."""
    return [path for path in ended if not _marker(path).exists()]


def mark_applied(path: Path) -> None:
    """Say that all events of a finished segment are in the online history."""
    _marker(path).touch()


def _marker(segment: Path) -> Path:
    return segment.with_suffix(APPLIED)


@dataclass(frozen=True)
class _Pending:
    content: bytes
    done: Future[Path] | None


class EventLog:
    """The writing end: one thread that writes and syncs what has queued up, as one group.

    Args:
        directory: created when absent; torn tails of dead writers are repaired.
        sync: makes a file descriptor's data durable.

    Attributes:
        finished: segments of earlier writers that are gone.
    """

    def __init__(self, directory: Path, *, sync: Callable[[int], None] = os.fdatasync) -> None:
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.finished, self.repaired_bytes = repair(self.directory)
        self._sync = sync
        self._queue: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._later: deque[_Pending] = deque()
        self._segment = self.directory
        self._descriptor = -1
        self._size = 0
        self._touched = 0.0
        self._open_segment()
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def append(self, records: list[dict[str, Any]]) -> Future[Path]:
        """Write records; the future gives their segment once they are durable, all or none.

        The future fails with `LogUnavailable` when they are not.
        """
        done: Future[Path] = Future()
        done.set_running_or_notify_cancel()  # a caller that leaves does not take the records back
        self._queue.put(_Pending(b"".join(map(frame, records)), done))
        return done

    def append_later(self, record: dict[str, Any]) -> None:
        """Write a record with the next group, without waiting and without a promise.

        The next group is at most `GATHER_SECONDS` away: waking the writer for each record would
        cost a recommendation a fifth of its time.
        """
        self._later.append(_Pending(frame(record), None))

    def close(self) -> None:
        """Write what is queued and release the segment."""
        self._queue.put(None)
        self._thread.join()
        self._close_segment()

    def _run(self) -> None:
        closing = False
        while not closing:
            group: list[_Pending | None] = []
            with suppress(queue.Empty):
                group.append(self._queue.get(timeout=GATHER_SECONDS))
            while not self._queue.empty():
                group.append(self._queue.get())
            self._keep_alive()
            closing = None in group
            # What was shown comes before what was done about it.
            later = [self._later.popleft() for _ in range(len(self._later))]
            if pending := later + [entry for entry in group if entry is not None]:
                self._commit(pending)

    def _keep_alive(self) -> None:
        """Touch the segment; leave it when it was silent for so long that others may change it."""
        silent = time.time() - self._touched
        if self._descriptor < 0 or silent < TOUCH_SECONDS:
            return
        if silent > ABANDONED_SECONDS / 2:
            self._close_segment()
            return
        with suppress(OSError):  # tried again in a moment
            os.utime(self._descriptor)
            self._touched = time.time()

    def _commit(self, pending: list[_Pending]) -> None:
        try:
            self._write(
                b"".join(entry.content for entry in pending),
                durable=any(entry.done is not None for entry in pending),
            )
        except Exception as problem:  # whatever it is, whoever waits must hear of it
            metrics.EVENT_LOG_FAILURES.inc()
            error = LogUnavailable(f"event log: {problem}")
            for entry in pending:
                if entry.done is not None:
                    entry.done.set_exception(error)
        else:
            for entry in pending:
                if entry.done is not None:
                    entry.done.set_result(self._segment)

    def _write(self, content: bytes, *, durable: bool) -> None:
        """Append to the segment; on failure take back what was not acknowledged."""
        if self._descriptor < 0 or self._size >= SEGMENT_BYTES:
            self._close_segment()
            self._open_segment()
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(self._descriptor, view) :]
            if durable:
                self._sync(self._descriptor)
        except OSError:
            # After a failed sync the kernel may have dropped the pages: never write here again.
            try:
                os.ftruncate(self._descriptor, self._size)
                if not self._size:  # else a disk that stays full gets an empty file per attempt
                    self._segment.unlink()
            finally:
                self._close_segment()
            raise
        self._size += len(content)

    def _open_segment(self) -> None:
        name = f"{time.time_ns() // 1000:016d}-{this_host()}-{secrets.token_hex(4)}.log"
        self._segment = self.directory / name
        # Locked before it can be found: a worker that starts now must not take it for finished.
        hidden = self._segment.with_suffix(".new")
        self._descriptor = os.open(
            hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640
        )
        with suppress(OSError):  # a volume without locks: others go by the touches
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        hidden.rename(self._segment)
        self._size = 0
        self._touched = time.time()
        folder = os.open(self.directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
