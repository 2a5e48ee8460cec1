"""From the durable log to the online history: in groups, and again until it worked."""

import logging
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from feature_repo.event_log import HEADER, frames
from feature_repo.history import HistoryStore
from feature_repo.rebuild import rebuild
from serving import metrics
from serving.event_log import mark_applied

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5

Records = Sequence[dict[str, Any]]


class HistoryWriter:
    """One thread that makes logged events visible to every worker.

    While the store is away, events stay in order in memory, and in the log for whoever restarts.
    """

    def __init__(self, store: HistoryStore) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[_Logged | None] = queue.SimpleQueue()
        self._segments: list[Path] = []
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)
        self._thread.start()

    def append(self, records: Records, segment: Path) -> Future[bool]:
        """Whether the events are visible now; False when the store is away and they come later.

        Args:
            segment: of the event log, where the records are durable.
        """
        done: Future[bool] = Future()
        done.set_running_or_notify_cancel()
        self._queue.put(_Logged(records, segment, done))
        return done

    def close(self) -> None:
        """Apply what is queued; what cannot be applied now is found in the log by `catch_up`."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        closing = False
        while not closing:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            closing = None in group
            if not self._apply([entry for entry in group if entry is not None]):
                return
        for segment in self._segments:
            mark_applied(segment)

    def _apply(self, group: "list[_Logged]") -> bool:
        """Apply a group, however long it takes; False if told to close before it worked."""
        records = [record for entry in group for record in entry.records]
        visible = False
        while not visible:
            try:
                rebuild(self._store, records)
                visible = True
            except Exception as error:
                logger.warning("history: %d events wait (%s)", len(records), type(error).__name__)
                metrics.HISTORY_FAILURES.inc()
            for entry in group:
                if not entry.done.done():
                    entry.done.set_result(visible)
            if not visible and self._closing.wait(RETRY_SECONDS):
                return False
        self._pass_segments(group)
        return True

    def _pass_segments(self, group: "list[_Logged]") -> None:
        """Mark segments as applied once two newer ones are being applied.

        Records reach this thread almost in the order of the log: the last of one segment may come
        after the first of the next, but not after the first of the one after that.
        """
        for entry in group:
            if entry.segment not in self._segments:
                self._segments.append(entry.segment)
        while len(self._segments) > 2:
            mark_applied(self._segments.pop(0))


@dataclass(frozen=True)
class _Logged:
    records: Records
    segment: Path
    done: Future[bool]


def catch_up(store: HistoryStore, finished: Sequence[Path]) -> int:
    """Apply the events that earlier writers logged and perhaps did not live to apply.

    Returns:
        How many were missing.
    """
    missing = 0
    for path in finished:
        payloads = (frame[HEADER.size :] for frame in frames(path.read_bytes()))
        missing += rebuild(store, map(orjson.loads, payloads))
        mark_applied(path)
    return missing
