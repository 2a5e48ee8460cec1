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
    """Positive events of one user, oldest first, as far as they are encoded.

    Attributes:
        item_ids, timestamps: of these events; microseconds since the epoch.
        disliked: items of the negative events: they are not shown to that user.
        older: items of the positive events before these: they are not shown again either.
    """

    item_ids: list[str]
    timestamps: list[int]
    disliked: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls) -> "History":
        """Nothing known."""
        return cls([], [])

    def hash(self) -> str:
        """16 hex digits over the items in order: equal histories get equal answers."""
        return hashlib.blake2b("\n".join(self.item_ids).encode(), digest_size=8).hexdigest()


def by_role(found: UserHistory, roles: Roles, n: int) -> History:
    """What is stored of a user, as a model with these roles sees it.

    Args:
        n: positive events to encode, the newest.
    """
    items, times, disliked = found.item_ids, found.timestamps, []
    # Looked up per type and not per event: a history may have 10,000 of these, and few of those.
    role_of = {kind: roles.role(kind) for kind in set(found.event_types)}
    if set(role_of.values()) - {"positive"}:
        kept = [role_of[kind] for kind in found.event_types]
        disliked = [item for item, role in zip(items, kept, strict=True) if role == "negative"]
        items = [item for item, role in zip(items, kept, strict=True) if role == "positive"]
        times = [time for time, role in zip(times, kept, strict=True) if role == "positive"]
    return History(items[-n:], times[-n:], disliked, items[:-n])


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
        stored.older,
    )


def example_users(feature_store: Path, n: int = 20) -> list[str]:
    """Some users of the published feature store, for people to try; none before a publish."""
    path = feature_store / "current" / "user_sequence.parquet"
    if not path.exists():
        return []
    some = next(pq.ParquetFile(path).iter_batches(batch_size=1000, columns=["user_id"]), None)
    return [] if some is None else list(dict.fromkeys(some["user_id"].to_pylist()))[:n]
