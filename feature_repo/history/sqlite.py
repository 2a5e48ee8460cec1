"""The online history embedded: one SQLite file in WAL mode, shared by processes on one machine."""

import fcntl
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_repo.history.feed import FEED_LIMIT, FedEvent, Feed
from feature_repo.history.protocol import LIMIT, StoredEvent
from feature_repo.volume import refuse_network_volume

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    user_id TEXT, timestamp INTEGER, event_id TEXT, item_id TEXT, event_type TEXT,
    PRIMARY KEY (user_id, timestamp, event_id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS once ON events (user_id, event_id);
CREATE TABLE IF NOT EXISTS changed (user_id TEXT PRIMARY KEY, revision INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feed (
    position INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT, event_type TEXT, timestamp INTEGER
);
CREATE TABLE IF NOT EXISTS generation (name TEXT);
INSERT INTO generation SELECT hex(randomblob(8)) WHERE NOT EXISTS (SELECT 1 FROM generation);
"""

INSERT = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)"

LATEST = """
SELECT event_id, item_id, event_type, timestamp FROM events
WHERE user_id = ? ORDER BY timestamp DESC, event_id DESC LIMIT ?
"""

# The row value in the middle is the oldest event to keep; there is none in a short history.
TRIM = """
DELETE FROM events WHERE user_id = ?1 AND (timestamp, event_id) < (
    SELECT timestamp, event_id FROM events
    WHERE user_id = ?1 ORDER BY timestamp DESC, event_id DESC LIMIT 1 OFFSET ?2 - 1
) RETURNING event_id
"""

FEED = "INSERT INTO feed (item_id, event_type, timestamp) VALUES (?, ?, ?)"

TRIM_FEED = "DELETE FROM feed WHERE position <= ?"
TRIM_EVERY = 1_000  # appends

READ_FEED = """
SELECT position, item_id, event_type, timestamp FROM feed WHERE position > ?
ORDER BY position LIMIT ?
"""

MARK = """
INSERT INTO changed VALUES (?, 1) ON CONFLICT (user_id) DO UPDATE SET revision = revision + 1
"""


class SQLiteHistory:
    """`HistoryStore` in a file.

    Appends are durable on return: the write-ahead log is synced at each commit.

    Args:
        path: the database file; made if absent, as its folder is, beside a `.lock` file.
        limit: events kept per user.
        feed_limit: events kept of the feed.

    Raises:
        DataError: the file would be on a network volume.
    """

    def __init__(self, path: Path, *, limit: int = LIMIT, feed_limit: int = FEED_LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._feed_limit = feed_limit
        self._threads = threading.local()
        self._connections: list[sqlite3.Connection] = []
        # SQLite's own waiting for a writer polls with sleeps of up to 100 ms. A file lock wakes
        # the next writer at once, and the kernel releases it when its holder is killed.
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network_volume(path)
        self._lock_file = path.with_name(path.name + ".lock").open("w")
        self._lock = threading.Lock()
        with self._writing() as connection:
            connection.executescript(SCHEMA)

    def append(self, user_id: str, event: StoredEvent) -> bool:  # noqa: D102
        return self.append_many([(user_id, event)]) == 1

    def append_many(self, events: Iterable[tuple[str, StoredEvent]]) -> int:  # noqa: D102
        appended = 0
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                for user_id, event in events:
                    appended += self._append(connection, user_id, event)
        return appended

    def _append(self, connection: sqlite3.Connection, user_id: str, event: StoredEvent) -> bool:
        row = (user_id, event.timestamp, event.event_id, event.item_id, event.event_type)
        if not connection.execute(INSERT, row).rowcount:
            return False
        trimmed = connection.execute(TRIM, (user_id, self._limit)).fetchall()
        if (event.event_id,) in trimmed:
            return False
        connection.execute(MARK, (user_id,))
        fed = connection.execute(FEED, (event.item_id, event.event_type, event.timestamp)).lastrowid
        if fed and fed % TRIM_EVERY == 0:
            connection.execute(TRIM_FEED, (fed - self._feed_limit,))
        return True

    def latest(self, user_id: str, n: int) -> list[StoredEvent]:  # noqa: D102
        rows = self._connection().execute(LATEST, (user_id, n)).fetchall()
        return [StoredEvent(*row) for row in reversed(rows)]

    def feed(self, after: str, limit: int) -> Feed:  # noqa: D102
        connection = self._connection()
        [[generation]] = connection.execute("SELECT name FROM generation").fetchall()
        rows = connection.execute(READ_FEED, (int(after or 0), limit)).fetchall()
        position = str(rows[-1][0]) if rows else after
        return Feed(generation, [FedEvent(*row[1:]) for row in rows], position, len(rows) == limit)

    def forget(self, user_id: str) -> int:  # noqa: D102
        with self._writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with connection:
                connection.execute("DELETE FROM changed WHERE user_id = ?", (user_id,))
                gone = connection.execute("DELETE FROM events WHERE user_id = ?", (user_id,))
            # Until then the rows are in the file as they were, and in the log of what changed.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return gone.rowcount

    def changed(self, limit: int) -> list[tuple[str, int]]:  # noqa: D102
        return (
            self._connection()
            .execute("SELECT user_id, revision FROM changed LIMIT ?", (limit,))
            .fetchall()
        )

    def settle(self, user_id: str, revision: int) -> None:  # noqa: D102
        with self._writing() as connection:
            connection.execute(
                "DELETE FROM changed WHERE user_id = ? AND revision = ?", (user_id, revision)
            )

    def mark_all(self) -> None:  # noqa: D102
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO changed SELECT DISTINCT user_id, 1 FROM events"
            )

    def clear(self) -> None:  # noqa: D102
        with self._writing() as connection:
            connection.executescript(
                "BEGIN; DELETE FROM events; DELETE FROM changed; DELETE FROM feed;"
                " UPDATE generation SET name = hex(randomblob(8)); COMMIT;"
            )

    def close(self) -> None:  # noqa: D102
        for connection in self._connections:
            connection.close()
        self._lock_file.close()

    def _connection(self) -> sqlite3.Connection:
        connection = getattr(self._threads, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=10
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
            self._threads.connection = connection
            self._connections.append(connection)
        return connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The thread's connection, while no other thread or process writes."""
        with self._lock:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)
            try:
                yield self._connection()
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)
