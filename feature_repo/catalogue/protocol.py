"""The contract of a live catalogue, met alike by SQLite and Redis."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from feature_repo.event_codec import Record


class Changes(NamedTuple):
    """What changed since an earlier look.

    Attributes:
        sequence: ask from here next time; smaller than before when the store was emptied.
        items: the newest record of each item that changed, as `feature_repo.event_codec` has it.
        impressions: of each item whose count changed, how often it was shown.
    """

    sequence: int
    items: list[Record]
    impressions: dict[str, int]


class CatalogueStore(Protocol):
    """The newest record of each item, by (timestamp, update id), and its counted impressions.

    As for histories, the order of arrival does not matter and applying again changes nothing, so a
    store is rebuilt from the event log. Impressions are counted with best effort.
    """

    def apply(self, records: Iterable[Record]) -> int:
        """Take item records; visible to all processes on return. Returns how many were newer."""
        ...

    def count_impressions(self, shown: Mapping[str, int]) -> None:
        """Add to how often items were shown."""
        ...

    def since(self, sequence: int) -> Changes:
        """What changed after `sequence`; 0 for everything."""
        ...

    def close(self) -> None:
        """Release connections and files."""
        ...
