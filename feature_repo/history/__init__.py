"""What users did since the last publish, visible to every worker as soon as it is appended."""

from pathlib import Path

from feature_repo.history.protocol import HistoryStore, StoredEvent
from feature_repo.history.redis import RedisHistory
from feature_repo.history.sqlite import SQLiteHistory

__all__ = ["HistoryStore", "RedisHistory", "SQLiteHistory", "StoredEvent", "open_history"]


def open_history(location: str | Path) -> HistoryStore:
    """The store at `location`: a "redis://host:port/db" address, or the path of a SQLite file."""
    if str(location).startswith(("redis://", "rediss://", "unix://")):
        return RedisHistory(str(location))
    return SQLiteHistory(Path(location))
