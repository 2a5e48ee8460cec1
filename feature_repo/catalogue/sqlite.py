"""The live catalogue embedded: one SQLite file in WAL mode, shared by processes on one machine."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import orjson

from feature_repo.catalogue.protocol import Changes
from feature_repo.event_codec import Record
from feature_repo.volume import refuse_network_volume

SCHEMA = """
CREATE TABLE IF NOT EXISTS items (
    item_id TEXT PRIMARY KEY, timestamp INTEGER, update_id TEXT, record BLOB, sequence INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_by_sequence ON items (sequence);
CREATE TABLE IF NOT EXISTS impressions (
    item_id TEXT PRIMARY KEY, shown INTEGER, sequence INTEGER
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS impressions_by_sequence ON impressions (sequence);
CREATE TABLE IF NOT EXISTS changes (only_row INTEGER PRIMARY KEY, sequence INTEGER);
INSERT OR IGNORE INTO changes VALUES (1, 0);
"""

NEXT = "UPDATE changes SET sequence = sequence + 1 RETURNING sequence"

APPLY = """
INSERT INTO items VALUES (?, ?, ?, ?, ?) ON CONFLICT (item_id) DO UPDATE SET
    timestamp = excluded.timestamp, update_id = excluded.update_id,
    record = excluded.record, sequence = excluded.sequence
WHERE (excluded.timestamp, excluded.update_id) > (timestamp, update_id)
"""

COUNT = """
INSERT INTO impressions VALUES (?, ?, ?) ON CONFLICT (item_id) DO UPDATE SET
    shown = shown + excluded.shown, sequence = excluded.sequence
"""


class SQLiteCatalogue:
    """`CatalogueStore` in a file; what was applied is durable on return.

    Args:
        path: the database file; made if absent, as its folder is.

    Raises:
        DataError: the file would be on a network volume.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_network_volume(path)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10
        )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        with self._lock:
            self._connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")

    def apply(self, records: Iterable[Record]) -> int:  # noqa: D102
        rows = [(r["item_id"], r["timestamp"], r["update_id"], orjson.dumps(r)) for r in records]
        if not rows:
            return 0
        with self._writing() as sequence:
            return sum(self._connection.execute(APPLY, (*r, sequence)).rowcount for r in rows)

    def count_impressions(self, shown: Mapping[str, int]) -> None:  # noqa: D102
        with self._writing() as sequence:
            rows = [(item_id, count, sequence) for item_id, count in shown.items()]
            self._connection.executemany(COUNT, rows)

    def since(self, sequence: int) -> Changes:  # noqa: D102
        with self._lock:
            [newest] = self._connection.execute("SELECT sequence FROM changes").fetchone()
            if newest == sequence:
                return Changes(newest, [], {})
            after = sequence if newest > sequence else 0
            items, impressions = (
                self._connection.execute(f"{query} WHERE sequence > ?", (after,)).fetchall()
                for query in ("SELECT record FROM items", "SELECT item_id, shown FROM impressions")
            )
        return Changes(newest, [orjson.loads(record) for (record,) in items], dict(impressions))

    def close(self) -> None:  # noqa: D102
        self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[int]:
        """The number of this change, while no other thread or process writes."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield self._connection.execute(NEXT).fetchone()[0]
