"""From the durable log to the online history: in groups, and again until it worked."""

import logging
import queue
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from feature_repo.catalogue import CatalogueStore
from feature_repo.catalogue.apply import apply_records
from feature_repo.event_codec import frames, records
from feature_repo.history import HistoryStore
from serving import metrics
from serving.events.writer import left_elsewhere, mark_applied

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
WAITING_EVENTS = 50_000
LOOK_SECONDS = 300.0
"""How often a worker looks for what writers of other hosts left."""

Records = Sequence[dict[str, Any]]


class HistoryWriter:
    """One thread that makes logged events visible to every worker.

    While the store is away nobody waits for it: events stay in order in memory, up to
    `WAITING_EVENTS`, beyond that in the log alone, where they are for whoever restarts, too.
    """

    def __init__(self, store: HistoryStore, catalogue: CatalogueStore | None = None) -> None:
        self._store, self._catalogue = store, catalogue
        self._queue: queue.SimpleQueue[_Logged | None] = queue.SimpleQueue()
        self._segments: list[Path] = []
        self._away = threading.Event()
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
        if self._away.is_set():
            done.set_result(False)
        self._queue.put(_Logged(records, segment, done))
        return done

    def close(self) -> None:
        """Apply what is queued; what cannot be applied now is found in the log by `catch_up`."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set() or not self._queue.empty():
            first = self._queue.get()
            if not self._apply([*([first] if first else []), *self._queued()]):
                return
        for segment in self._segments:
            mark_applied(segment)

    def _queued(self) -> "list[_Logged]":
        queued = []
        while not self._queue.empty():
            if entry := self._queue.get():
                queued.append(entry)
        return queued

    def _apply(self, group: "list[_Logged]") -> bool:
        """Apply a group, however long it takes; False if told to close before it worked.

        Whatever queues up meanwhile joins the group.
        """
        records: list[dict[str, Any]] = []
        segments: list[Path] = []
        in_log_alone: list[Path] = []
        while True:
            records += [record for entry in group for record in entry.records]
            segments = list(dict.fromkeys([*segments, *(entry.segment for entry in group)]))
            if len(records) > WAITING_EVENTS:
                records, in_log_alone = [], segments
            visible = self._try(chain(chain.from_iterable(map(_logged, in_log_alone)), records))
            for entry in group:
                if not entry.done.done():
                    entry.done.set_result(visible)
            if visible:
                self._pass_segments(segments)
                return True
            if self._closing.wait(RETRY_SECONDS):
                return False
            group = self._queued()

    def _try(self, records: Iterable[dict[str, Any]]) -> bool:
        try:
            apply_records(self._store, self._catalogue, records)
        except Exception as error:
            self._away.set()
            logger.warning("history: events wait (%s)", type(error).__name__)
            metrics.HISTORY_FAILURES.inc()
            return False
        self._away.clear()
        return True

    def _pass_segments(self, segments: Sequence[Path]) -> None:
        """Mark segments as applied once two newer ones are being applied.

        Records reach this thread almost in the order of the log: the last of one segment may come
        after the first of the next, but not after the first of the one after that.
        """
        for segment in segments:
            if segment not in self._segments:
                self._segments.append(segment)
        while len(self._segments) > 2:
            mark_applied(self._segments.pop(0))


@dataclass(frozen=True)
class _Logged:
    records: Records
    segment: Path
    done: Future[bool]


def catch_up(
    store: HistoryStore, finished: Sequence[Path], catalogue: CatalogueStore | None = None
) -> int:
    """Apply the records that earlier writers logged and perhaps did not live to apply.

    Returns:
        How many were missing.
    """
    missing = 0
    for path in finished:
        missing += apply_records(store, catalogue, _logged(path))
        mark_applied(path)
    return missing


class LogKeeper:
    """One thread that applies what writers of other hosts left in the log.

    A pod that died is known to be dead only some minutes later, when nobody starts.
    """

    def __init__(
        self, store: HistoryStore, directory: Path, catalogue: CatalogueStore | None = None
    ) -> None:
        self._store, self._directory, self._catalogue = store, directory, catalogue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-keeper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                catch_up(self._store, left_elsewhere(self._directory), self._catalogue)
            except Exception as error:
                logger.warning("history: events of other hosts wait (%s)", type(error).__name__)
                metrics.HISTORY_FAILURES.inc()


def _logged(segment: Path) -> Iterable[dict[str, Any]]:
    """The records of a segment, which may still be written to."""
    return records(frames(segment.read_bytes()))
