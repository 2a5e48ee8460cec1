"""Lists that were served, and what their users did with them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from feature_repo.event_codec import Record
from serving.monitoring.log_tail import arrival


@dataclass(slots=True)
class ServedList:
    """One list of k slots and its outcome so far.

    Attributes:
        served_at: microseconds since the epoch.
        degraded: whether it was made without the model or without the history.
        scores, propensities: (k,) float64; a score is NaN where the model did not score.
        drawn: (k,) bool, False where a rule has placed the item: of such a slot nothing is counted.
        remaining: (k,) int64, how many items might have been drawn into each slot.
        clicked: (k,) bool, whether an event named this request and the slot's item.
        next_rank: 1-based rank in this list of the user's next item: 0 if it is not in the list,
            None while there is no next item, or none that came in time.
    """

    user_id: str | None
    served_at: int
    policy: str
    model_version: str
    degraded: bool
    item_ids: list[str]
    scores: np.ndarray
    propensities: np.ndarray
    drawn: np.ndarray
    remaining: np.ndarray
    history_length: int
    clicked: np.ndarray
    next_rank: int | None = None

    @classmethod
    def from_record(cls, record: Record) -> "ServedList":
        """From an impression of the event log."""
        k = len(record["item_ids"])
        rules = record.get("rules", [None] * k)
        remaining = record.get("remaining", record["eligible"] - np.arange(k))
        return cls(
            user_id=record["user_id"],
            served_at=record["timestamp"],
            policy=record["policy"],
            model_version=record["model_version"],
            degraded=record["degraded"] is not None,
            item_ids=record["item_ids"],
            scores=np.array(record["scores"], dtype=np.float64),
            propensities=np.array(record["propensities"], dtype=np.float64),
            drawn=np.array([rule is None for rule in rules], dtype=bool),
            remaining=np.asarray(remaining, dtype=np.int64),
            history_length=record["history_length"],
            clicked=np.zeros(k, dtype=bool),
        )


@dataclass
class Window:
    """The lists and events of the last `length` microseconds.

    A click is an event that names the list's request, by the same user, on an item of the list. The
    next item of a list is that of the user's first event after it, whatever led to it; a newer list
    takes the place of one that got no event. Both count within `length` of the list, which is
    then forgotten. A repeated (user, event id) or request id counts once.

    Attributes:
        length: microseconds.
        lists: by request id, oldest first.
        events: (arrival in microseconds, item id) by (user, event id), oldest first.
    """

    length: int
    lists: dict[str, ServedList] = field(default_factory=dict)
    events: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    _awaiting: dict[str, ServedList] = field(default_factory=dict)

    def add(self, records: Iterable[Record]) -> None:
        """Take records in the order of their arrival."""
        for record in records:
            if record["type"] == "event":
                self._add_event(record)
            elif record["type"] == "impression" and record["request_id"] not in self.lists:
                served = self.lists[record["request_id"]] = ServedList.from_record(record)
                if served.user_id is not None:
                    self._awaiting[served.user_id] = served

    def forget(self, *, now: int) -> None:
        """Drop what is older than the window."""
        oldest = now - self.length
        self.lists = {k: served for k, served in self.lists.items() if served.served_at >= oldest}
        self.events = {k: event for k, event in self.events.items() if event[0] >= oldest}
        self._awaiting = {k: s for k, s in self._awaiting.items() if s.served_at >= oldest}

    def _add_event(self, record: Record) -> None:
        key = (record["user_id"], record["event_id"])
        if key in self.events:
            return
        self.events[key] = (arrival(record), record["item_id"])
        if (served := self._awaiting.pop(record["user_id"], None)) and self._in_time(
            served, record
        ):
            served.next_rank = _rank(record["item_id"], served)
        clicked = self.lists.get(record["request_id"] or "")
        if clicked and clicked.user_id == record["user_id"] and self._in_time(clicked, record):
            rank = _rank(record["item_id"], clicked)
            if rank:
                clicked.clicked[rank - 1] = True

    def _in_time(self, served: ServedList, record: Record) -> bool:
        return served.served_at <= arrival(record) <= served.served_at + self.length


def _rank(item_id: str, served: ServedList) -> int:
    return served.item_ids.index(item_id) + 1 if item_id in served.item_ids else 0
