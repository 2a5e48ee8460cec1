"""The durable log of what users did and what they were shown.

A directory of segments, `<created>-<writer>.log`, where `created` is microseconds since the epoch
as 16 digits and `writer` is 8 hex digits; names sort by age. Each segment has one writer: a worker
process that holds an exclusive `flock` on it while it lives. A segment is a run of frames

    length   uint32, little-endian: bytes of the payload
    crc      uint32, little-endian: CRC-32 (zlib) of the payload
    payload  one JSON object in UTF-8

and the payload is one of two records, told apart by "type"; timestamps are int microseconds UTC:

    {"type": "event", "event_id": str, "request_id": str|null, "user_id": str, "item_id": str,
     "event_type": str, "timestamp": int, "received_at": int}
    {"type": "impression", "request_id": str, "user_id": str|null, "timestamp": int,
     "policy": str, "model_version": str, "degraded": str|null, "seed": int,
     "history_length": int, "history_hash": str, "candidates": int, "eligible": int,
     "item_ids": [str], "scores": [float|null], "propensities": [float], "explored": [bool]}

An impression record is one slate; slot i is position i. An event may appear more than once (a
client's retry, another worker): readers keep the first of each user's event_id. A torn frame can
only be the last of a segment whose writer died; it was never acknowledged, and the next writer that
starts cuts it off. An empty `<segment>.applied` says that a finished segment is in the online
history as well. `feature_repo.event_log` is the reader.
"""

import fcntl
import os
import queue
import secrets
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from serving import metrics

_FRAME = struct.Struct("<II")
SEGMENT_BYTES = 64 << 20
GATHER_SECONDS = 0.05


class LogUnavailable(OSError):
    """The log cannot take records now: the disk is full or failing. Nothing was acknowledged."""


def frame(record: dict[str, Any]) -> bytes:
    """One record as it lies in a segment."""
    payload = orjson.dumps(record)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def whole_bytes(segment: bytes) -> int:
    """How much of a segment is whole frames, up to the first that is torn or damaged."""
    offset = 0
    while offset + _FRAME.size <= len(segment):
        length, crc = _FRAME.unpack_from(segment, offset)
        end = offset + _FRAME.size + length
        if end > len(segment) or zlib.crc32(segment[offset + _FRAME.size : end]) != crc:
            break
        offset = end
    return offset


def repair(directory: Path) -> tuple[list[Path], int]:
    """Cut torn tails off the segments whose writer is gone.

    Returns:
        Those segments, oldest first, and the bytes cut.
    """
    finished, cut = [], 0
    for path in sorted(Path(directory).glob("*.log")):
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            finished.append(path)
            if _marker(path).exists():
                continue
            content = file.read()
            whole = whole_bytes(content)
            if whole < len(content):
                file.truncate(whole)
                os.fsync(file.fileno())
                cut += len(content) - whole
    return finished, cut


def unapplied(finished: list[Path]) -> list[Path]:
    """The finished segments whose events may be missing in the online history."""
    return [path for path in finished if not _marker(path).exists()]


def mark_applied(path: Path) -> None:
    """Say that all events of a finished segment are in the online history."""
    _marker(path).touch()


def _marker(segment: Path) -> Path:
    return segment.with_suffix(".applied")


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
            closing = None in group
            # What was shown comes before what was done about it.
            later = [self._later.popleft() for _ in range(len(self._later))]
            if pending := later + [entry for entry in group if entry is not None]:
                self._commit(pending)

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
        name = f"{time.time_ns() // 1000:016d}-{secrets.token_hex(4)}.log"
        self._segment = self.directory / name
        # Locked before it can be found: a worker that starts now must not take it for finished.
        hidden = self._segment.with_suffix(".new")
        self._descriptor = os.open(
            hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        hidden.rename(self._segment)
        self._size = 0
        folder = os.open(self.directory, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
