"""The feed of an online history: what was appended of late, by whomever, without saying by whom.

Workers follow it to know what everybody meets now. It holds an event exactly when the history took
it, written in the same step, so nothing is in it twice and nothing is missing after a crash.
"""

from typing import NamedTuple

FEED_LIMIT = 1_000_000
"""Events that a feed holds at least, the newest; a worker that starts reads them."""

BEGINNING = ""
"""The position before the first event."""


class FedEvent(NamedTuple):
    """Something that somebody did.

    Attributes:
        item_id: what it was done with.
        event_type: what was done.
        timestamp: when, microseconds since the epoch.
    """

    item_id: str
    event_type: str
    timestamp: int


class Feed(NamedTuple):
    """A part of a feed.

    Attributes:
        generation: another one where the history was emptied: whoever followed begins again.
        events: in the order in which they were appended.
        position: behind the last of them, to go on from.
        more: whether there may be more behind it already.
    """

    generation: str
    events: list[FedEvent]
    position: str
    more: bool
