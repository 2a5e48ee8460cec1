"""When an event happened, where the client's clock may be wrong: one rule for serving and training.

A time of more than five minutes after the event arrived is no time at which it can have happened:
the arrival counts instead. What lies further back than the retention is not taken.
"""

from datetime import timedelta

from feature_repo.event_codec import Record

CLOCK_TOLERANCE = timedelta(minutes=5)
RETENTION = timedelta(days=3650)
"""What a site keeps unless its settings say otherwise."""

_MICROSECOND = timedelta(microseconds=1)


def happened_at(claimed: int, received_at: int) -> int:
    """The time of an event; both in microseconds since the epoch."""
    return claimed if claimed <= received_at + CLOCK_TOLERANCE // _MICROSECOND else received_at


def too_old(happened: int, now: int, retention: timedelta = RETENTION) -> bool:
    """Whether it lies further back than the retention; both in microseconds since the epoch."""
    return happened < now - retention // _MICROSECOND


def settled(event: Record) -> Record:
    """A logged event with the time at which it happened: earlier versions logged what was claimed.

    One without whole numbers for times stays as it is.
    """
    claimed, received_at = event.get("timestamp"), event.get("received_at")
    if not isinstance(claimed, int) or not isinstance(received_at, int):
        return event
    return event | {"timestamp": happened_at(claimed, received_at)}
