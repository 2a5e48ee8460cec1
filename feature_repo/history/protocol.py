"""The contract of an online history store, met alike by SQLite and Redis."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol

from feature_repo.history.feed import Feed

LIMIT = 1_000
"""Events kept per user, the newest. A model reads 200; the rest is room for late events."""


class StoredEvent(NamedTuple):
    """Something a user did.

    Attributes:
        event_id: unique within the user; a second event with the same id is a duplicate.
        item_id: what it was done with.
        event_type: what was done.
        timestamp: when, microseconds since the epoch.
    """

    event_id: str
    item_id: str
    event_type: str
    timestamp: int


class HistoryStore(Protocol):
    """The newest `LIMIT` events of each user, ordered by (timestamp, event_id).

    The order of arrival does not matter: the same events give the same state, whatever process
    appends them, however often, and in whatever order. So a store is rebuilt from the event log
    by appending the log again.
    """

    def append(self, user_id: str, event: StoredEvent) -> bool:
        """Put `event` in its place; it is durable and visible to all processes on return.

        Returns:
            False if nothing changed: a duplicate, or older than all of a full history.
        """
        ...

    def append_many(self, events: Iterable[tuple[str, StoredEvent]]) -> int:
        """Append (user_id, event) pairs in one go; returns how many changed something."""
        ...

    def latest(self, user_id: str, n: int) -> list[StoredEvent]:
        """The newest `n` events, oldest first; none for an unknown user."""
        ...

    def feed(self, after: str, limit: int) -> Feed:
        """About `limit` of the newest `FEED_LIMIT` events that changed something, after a position.

        Args:
            after: `BEGINNING`, or a position of the same generation.
        """
        ...

    def forget(self, user_id: str) -> int:
        """Remove all that is known of a user; returns the number of events removed."""
        ...

    def changed(self, limit: int) -> list[tuple[str, int]]:
        """Up to `limit` users with events not yet mirrored into Feast, and their revision."""
        ...

    def settle(self, user_id: str, revision: int) -> None:
        """Say that the user is mirrored as of `revision`; later appends keep it changed."""
        ...

    def mark_all(self) -> None:
        """Say that no user is mirrored: Feast's online store was replaced."""
        ...

    def clear(self) -> None:
        """Remove everything, ahead of a rebuild."""
        ...

    def close(self) -> None:
        """Release connections and files."""
        ...
