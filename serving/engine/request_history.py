"""What a user did, as a request sees it: the stored history and the items in the request."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from feature_repo.online import UserHistory
from sasrec.data.roles import Roles


@dataclass(frozen=True)
class History:
    """Positive events of one user, oldest first; `timestamps` are microseconds since the epoch.

    `disliked` are the items of the negative ones: they are not shown to that user.
    """

    item_ids: list[str]
    timestamps: list[int]
    disliked: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls) -> "History":
        """Nothing known."""
        return cls([], [])

    def hash(self) -> str:
        """16 hex digits over the items in order: equal histories get equal answers."""
        return hashlib.blake2b("\n".join(self.item_ids).encode(), digest_size=8).hexdigest()


def by_role(found: UserHistory, roles: Roles, n: int) -> History:
    """What is stored of a user, as a model with these roles sees it: up to `n` positive events."""
    positive = [row for row, kind in enumerate(found.event_types) if roles.role(kind) == "positive"]
    return History(
        [found.item_ids[row] for row in positive[-n:]],
        [found.timestamps[row] for row in positive[-n:]],
        [
            item
            for item, kind in zip(found.item_ids, found.event_types, strict=True)
            if roles.role(kind) == "negative"
        ],
    )


def with_recent_items(stored: History, recent_items: Sequence[str]) -> History:
    """The stored history followed by what the request adds to it.

    The caller's list usually repeats the end of the stored one; that overlap counts once.
    """
    recent = list(recent_items)
    overlap = max(
        (
            n
            for n in range(1, min(len(recent), len(stored.item_ids)) + 1)
            if stored.item_ids[-n:] == recent[:n]
        ),
        default=0,
    )
    added = recent[overlap:]
    now = time.time_ns() // 1000
    return History(
        stored.item_ids + added,
        stored.timestamps + [now - len(added) + i for i in range(1, len(added) + 1)],
        stored.disliked,
    )


def example_users(feature_store: Path, n: int = 20) -> list[str]:
    """Some users of the published feature store, for people to try; none before a publish."""
    path = feature_store / "current" / "user_sequence.parquet"
    if not path.exists():
        return []
    some = next(pq.ParquetFile(path).iter_batches(batch_size=1000, columns=["user_id"]), None)
    return [] if some is None else list(dict.fromkeys(some["user_id"].to_pylist()))[:n]
