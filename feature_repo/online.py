"""What serving reads: Feast's snapshot of a user, and what the user did since, as one history."""

import asyncio
import threading
import time
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from feature_repo.definitions import SERVICE
from feature_repo.history import HistoryStore
from feature_repo.history.protocol import LIMIT, StoredEvent
from feature_repo.history.sqlite import SQLiteHistory
from feature_repo.store import CURRENT, open_feature_store, published_generation


class Unavailable(RuntimeError):
    """The history cannot be read in time; answer without it."""


@dataclass(frozen=True)
class UserHistory:
    """A user's events, oldest first; `timestamps` are microseconds, strictly increasing."""

    item_ids: list[str]
    event_types: list[str]
    timestamps: list[int]


class OnlineHistory:
    """Reads users' histories: the published snapshot merged with the online history.

    A new publish is noticed at a read, and opened in the background. Threads may share one.

    Args:
        repo_dir: the feature store's folder; before the first publish, every snapshot is empty.
        history: what happened since, shared with whoever appends.
        timeout: seconds that `latest` waits for a store on the network; one in a file of this
            machine is read in place.
        failures: consecutive failures after which `latest` stops trying. A paused Redis then costs
            a few timeouts, not one a request.
        pause: seconds between looks, beside the requests, whether it is back.
    """

    def __init__(
        self,
        repo_dir: Path,
        history: HistoryStore,
        *,
        timeout: float = 0.05,
        failures: int = 3,
        pause: float = 1.0,
    ) -> None:
        self._repo_dir = Path(repo_dir)
        self._history = history
        self._in_a_file = isinstance(history, SQLiteHistory)
        self._timeout = timeout
        self._allowed_failures = failures
        self._pause = pause
        self._failed = 0
        self._away = False
        self._closing = threading.Event()
        self._readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="online-history")
        self._link = self._repo_dir / CURRENT
        self._opened = self._published()
        self._snapshot = _Snapshot(published_generation(self._repo_dir))
        self._opening = threading.Lock()

    async def latest(self, user_id: str, n: int) -> UserHistory:
        """The newest `n` events.

        Raises:
            Unavailable: the stores did not answer within `timeout`, or failed of late.
        """
        if self._away:
            raise Unavailable("the online history failed of late and is not back yet")
        try:
            if self._in_a_file and self._snapshot.in_a_file:
                # A quarter of a millisecond: handing it to a thread and back costs as much, and
                # beside a busy event loop a thread waits for the interpreter again and again.
                found = self.read(user_id, n)
            else:
                loop = asyncio.get_running_loop()
                reading = loop.run_in_executor(self._readers, self.read, user_id, n)
                found = await asyncio.wait_for(reading, self._timeout)
        except Exception as error:
            self._failed += 1
            if self._failed >= self._allowed_failures and not self._away:
                self._away = True
                threading.Thread(
                    target=self._await_return, name="history-away", daemon=True
                ).start()
            reason = str(error) or f"no answer within {self._timeout} s"
            raise Unavailable(f"the online history failed: {reason}") from error
        self._failed = 0
        return found

    def _await_return(self) -> None:
        """Look now and then whether the stores answer in time again."""
        while not self._closing.wait(self._pause):
            started = time.monotonic()
            try:
                self.read("", 1)
            except Exception:
                continue
            if time.monotonic() - started <= self._timeout:
                break
        self._failed = 0
        self._away = False

    def read(self, user_id: str, n: int) -> UserHistory:
        """As `latest`, in the calling thread and for as long as it takes."""
        snapshot, _ = self.snapshot(user_id)
        return merge(snapshot, self._history.latest(user_id, LIMIT), n)

    def snapshot(self, user_id: str) -> tuple[UserHistory, int]:
        """What Feast's online store holds of the user, and its timestamp in seconds; 0 if none."""
        published = self._published()
        if published != self._opened and self._opening.acquire(blocking=False):
            self._readers.submit(self._open, published)
        return self._snapshot.read(user_id)

    def _published(self) -> Path | None:
        """What the link to the last publish says: one call into the kernel, at every read."""
        try:
            return self._link.readlink()
        except FileNotFoundError:
            return None

    def _open(self, published: Path | None) -> None:
        """Open a new publish while others go on reading the one before."""
        try:
            self._snapshot = _Snapshot(published_generation(self._repo_dir))
            self._opened = published
        finally:
            self._opening.release()

    def close(self) -> None:
        """Wait for reads under way, and close the history store."""
        self._closing.set()
        self._readers.shutdown()
        self._history.close()


class _Snapshot:
    """The online store of one published generation."""

    def __init__(self, generation: Path | None) -> None:
        self.generation = generation
        self.in_a_file = True
        if generation is not None:
            self._store = open_feature_store(generation)
            self.in_a_file = self._store.config.online_store.type == "sqlite"
            self._service = self._store.get_feature_service(SERVICE)
            self.read("")  # so that no request pays for the first connection

    def read(self, user_id: str) -> tuple[UserHistory, int]:
        if self.generation is None:
            return UserHistory([], [], []), 0
        found = self._store.get_online_features(
            features=self._service, entity_rows=[{"user_id": user_id}]
        ).to_dict(include_event_timestamps=True)
        history = UserHistory(*(found[name][0] or [] for name in _FIELDS))
        return history, found["item_ids__ts"][0]


_FIELDS = ("item_ids", "event_types", "timestamps")


def merge(snapshot: UserHistory, tail: list[StoredEvent], n: int) -> UserHistory:
    """The newest `n` of the events in either; one that is in both counts once.

    The snapshot was built from the log of the same events, cleaned by `sasrec.data.cleaning`:
    equal events dropped, ties separated by 1 us. The tail is cleaned alike, so that an event has
    the same time in both.
    """
    # What is older than all of the tail is as it was: a long snapshot costs a slice.
    same = bisect_left(snapshot.timestamps, tail[0].timestamp) if tail else len(snapshot.timestamps)
    events = set(
        zip(
            snapshot.timestamps[same:],
            snapshot.event_types[same:],
            snapshot.item_ids[same:],
            strict=True,
        )
    )
    previous = -1
    for timestamp, event_type, item_id in dict.fromkeys(
        (event.timestamp, event.event_type, event.item_id) for event in tail
    ):
        previous = max(timestamp, previous + 1)
        events.add((previous, event_type, item_id))
    newest = sorted(events)[-n:]
    older = slice(max(0, same + len(newest) - n), same)
    return UserHistory(
        [*snapshot.item_ids[older], *(item for _, _, item in newest)],
        [*snapshot.event_types[older], *(kind for _, kind, _ in newest)],
        [*snapshot.timestamps[older], *(moment for moment, _, _ in newest)],
    )
