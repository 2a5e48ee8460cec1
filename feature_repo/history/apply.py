"""What the event log says, as the online history holds it: the one way from one to the other."""

from collections.abc import Iterable, Iterator
from itertools import islice

from feature_repo.event_codec import Record
from feature_repo.event_times import settled
from feature_repo.history.protocol import HistoryStore, StoredEvent

BATCH = 10_000


def apply_events(history: HistoryStore, records: Iterable[Record]) -> int:
    """Append every logged event to `history`; returns how many changed something.

    Appending is exactly once and in any order, so this brings an empty store to the state it had,
    and one that missed events (Redis was down) up to date, while others append to it.
    """
    events = _events(records)
    appended = 0
    while batch := list(islice(events, BATCH)):
        appended += history.append_many(batch)
    return appended


def _events(records: Iterable[Record]) -> Iterator[tuple[str, StoredEvent]]:
    for record in records:
        if record["type"] == "event":
            yield (
                record["user_id"],
                StoredEvent(
                    record["event_id"],
                    record["item_id"],
                    record["event_type"],
                    settled(record)["timestamp"],
                ),
            )
