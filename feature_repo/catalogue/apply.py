"""What the event log says, as the online history and the live catalogue hold it."""

from collections.abc import Iterable, Iterator

from feature_repo.catalogue.protocol import CatalogueStore
from feature_repo.event_codec import Record
from feature_repo.history import HistoryStore
from feature_repo.history.apply import apply_events


def apply_records(
    history: HistoryStore, catalogue: CatalogueStore | None, records: Iterable[Record]
) -> int:
    """Append the events and take the item records; returns how many changed something.

    As `apply_events`: exactly once, in any order, while others apply too.
    """
    items: list[Record] = []

    def others() -> Iterator[Record]:
        for record in records:
            if record["type"] == "item":
                items.append(record)
            else:
                yield record

    changed = apply_events(history, others())
    return changed + (catalogue.apply(items) if catalogue is not None and items else 0)
