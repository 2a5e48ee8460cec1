"""One thread of a worker that moves the counts of its versions with what everybody does.

Every worker follows the feed of the online history for itself, so that an event at any of them is
in the counts of all within `POLL_SECONDS` and a moment. A worker that starts, a version that it
loads, and a history that was emptied and built again begin with the counts of the model and read
the feed from its beginning: what is older than the model's moment is in its counts already.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from feature_repo.history import HistoryStore
from feature_repo.history.feed import BEGINNING, Feed
from serving import metrics
from serving.engine.engine import Engine
from serving.engine.live_trend import LiveTrend

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
READ_EVENTS = 20_000


@dataclass
class _Followed:
    """Where one version is in the feed."""

    engine: Engine
    trend: LiveTrend
    generation: str | None = None
    position: str = BEGINNING
    at_end: bool = False


class TrendFollower:
    """Follows the feed for the versions of one worker.

    Args:
        store: the online history.
        engines: the versions that are loaded.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        store: HistoryStore,
        engines: Callable[[], Iterable[Engine]],
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store, self._engines, self._clock = store, engines, clock
        self._followed: list[_Followed] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trend-follower", daemon=True)

    def start(self) -> None:
        """Follow, from now on, in a thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception as error:
                logger.warning("trend: counts wait (%s)", type(error).__name__)
                metrics.HISTORY_FAILURES.inc()
            if self._stop.wait(POLL_SECONDS):
                return

    def look(self) -> None:
        """Bring the counts of all loaded versions up to now."""
        before = {id(followed.engine): followed for followed in self._followed}
        self._followed = [
            before.get(id(engine)) or _Followed(engine, engine.trend)
            for engine in self._engines()
            if engine.trend is not None
        ]
        for followed in self._followed:
            followed.at_end = False
        while behind := [followed for followed in self._followed if not followed.at_end]:
            if self._stop.is_set():
                return
            for position in {followed.position for followed in behind}:
                part = self._store.feed(position, READ_EVENTS)
                for followed in behind:
                    if followed.position == position and not followed.at_end:
                        self._take(followed, part)

    def _take(self, followed: _Followed, part: Feed) -> None:
        if followed.generation not in (None, part.generation):
            followed.trend.restart()
            followed.generation, followed.position = part.generation, BEGINNING
            return
        followed.generation, followed.position = part.generation, part.position
        followed.at_end = not part.more
        events = [e for e in part.events if followed.engine.roles.role(e.event_type) == "positive"]
        items = followed.engine.vocabulary.encode([event.item_id for event in events])
        times = np.array([event.timestamp for event in events], dtype=np.int64)
        followed.trend.move(items, times, self._clock())
