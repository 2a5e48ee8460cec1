"""Cleaning as queries: the interactions of a lake as a run trains on them, and the data report.

The rules are those of `sasrec.data.cleaning.clean`, which holds all rows in memory; a test holds
both to equal results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_repo.lake.engine import Engine
from sasrec.data.cleaning import QUANTILES, DataReport
from sasrec.data.roles import Roles, looks_like_dislike
from sasrec.data.source import Clock
from sasrec.errors import DataError

# Every row of the lake that a run may use; `time` in microseconds. Filled in: from, until.
RAW = """
SELECT user_id, item_id, {micros} AS time, event_type, value, sequence, event_id, request_id
FROM lake_interactions
WHERE {micros} >= {first} AND {micros} < {until}
"""

# Groups of one user's events at one time: the only ones that cleaning has anything to do with.
TIES = "SELECT user_id, time FROM raw GROUP BY user_id, time HAVING count(*) > 1"

# Repetitions of an earlier row.
DROPPED = """
SELECT sequence
FROM (
    SELECT sequence,
           row_number() OVER (
               PARTITION BY raw.user_id, raw.time, raw.item_id, raw.event_type ORDER BY sequence
           ) AS copy
    FROM raw JOIN ties ON raw.user_id = ties.user_id AND raw.time = ties.time
) AS copies
WHERE copy > 1
"""

# Strictly increasing times per user: t'_i = max(t_i, t'_(i-1) + 1), as a running maximum of
# t_i - i. What was logged is ordered by event id within a time, as the online history is.
MOVED = """
SELECT sequence, spread AS time
FROM (
    SELECT sequence, time,
           place + max(time - place) OVER (
               PARTITION BY user_id ORDER BY place
               ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
           ) AS spread
    FROM (
        SELECT user_id, sequence, time,
               row_number() OVER (
                   PARTITION BY user_id ORDER BY time, event_id NULLS FIRST, sequence
               ) AS place
        FROM raw
        WHERE user_id IN (SELECT user_id FROM ties)
          AND sequence NOT IN (SELECT sequence FROM dropped)
    ) AS placed
) AS spreads
WHERE spread <> time
"""

EVENTS = """
SELECT raw.user_id, raw.item_id, {timestamp} AS timestamp, raw.event_type, raw.value, raw.sequence,
       CAST(roles.weight AS FLOAT) AS weight, raw.request_id
FROM raw
JOIN roles ON raw.event_type = roles.event_type
LEFT JOIN moved ON raw.sequence = moved.sequence
WHERE roles.role = 'positive' AND raw.sequence NOT IN (SELECT sequence FROM dropped)
ORDER BY raw.user_id, coalesce(moved.time, raw.time)
"""

USERS = """
SELECT user_id, count(*) AS events, min(time) AS first, max(time) AS last
FROM events GROUP BY user_id
"""


@dataclass(frozen=True)
class Window:
    """Which events a run uses.

    Attributes:
        until: events before it; None for all.
        retention: events back to this before the newest one.
    """

    until: datetime | None
    retention: timedelta

    @property
    def end(self) -> int:
        """`until` in microseconds, later than any time for None."""
        return 2**62 if self.until is None else microseconds(self.until)


def clean(
    engine: Engine,
    path: Path,
    *,
    name: str,
    clock: Clock,
    notes: Sequence[str],
    roles: Roles,
    window: Window,
) -> DataReport:
    """Write the cleaned positive events of a lake, and say what they are.

    Leaves the relations `raw`, `roles`, `events` (with `time`) and `users` in the engine.

    Args:
        engine: with the lake's relations.
        path: the file, of schema `TRAINING_EVENTS`, sorted by user and time.
        name, clock, notes: for the report, as in `Source`.

    Raises:
        DataError: nothing happened in the window, or no user has two events.
    """
    _define_raw(engine, name, window)
    for table, query in (("ties", TIES), ("dropped", DROPPED), ("moved", MOVED)):
        engine.table(table, query)
    counts = dict(engine.rows("SELECT event_type, count(*) FROM raw GROUP BY event_type"))
    engine.register("roles", _relation(roles, sorted(counts)))
    engine.write(
        EVENTS.format(timestamp=engine.timestamp.format("coalesce(moved.time, raw.time)")), path
    )
    engine.read("written_events", path)
    engine.view(
        "events", f"SELECT *, {engine.micros.format('timestamp')} AS time FROM written_events"
    )
    engine.table("users", USERS)
    lengths = np.array([n for (n,) in engine.rows("SELECT events FROM users")], dtype=np.int64)
    if not len(lengths) or lengths.max() < 2:
        raise DataError(
            f"{name}: no user has two events, so there is no next item to learn; "
            "is 'user_id' the right column? --column user_id=NAME takes another"
        )
    return _report(
        engine, name, clock, [*notes, *_role_notes(roles, counts)], counts, roles, lengths
    )


def _define_raw(engine: Engine, name: str, window: Window) -> None:
    micros = engine.micros.format("timestamp")
    until = window.end
    [(first, newest)] = engine.rows(
        f"SELECT min(t), max(CASE WHEN t < {until} THEN t END)"
        f" FROM (SELECT {micros} AS t FROM lake_interactions) AS times"
    )
    if first is None:
        raise DataError(f"{name}: there are no interactions")
    if newest is None:
        raise DataError(
            f"{name}: no interactions before {window.until}; "
            f"the first is at {from_microseconds(first)}"
        )
    oldest = newest - window.retention // timedelta(microseconds=1)
    engine.view("raw", RAW.format(micros=micros, first=oldest, until=until))


def _relation(roles: Roles, event_types: list[str]) -> pa.Table:
    return pa.table(
        {
            "event_type": pa.array(event_types, pa.string()),
            "role": pa.array([roles.role(kind) for kind in event_types], pa.string()),
            "weight": pa.array([roles.weight(kind) for kind in event_types], pa.float64()),
        }
    )


def _role_notes(roles: Roles, counts: dict[str, int]) -> list[str]:
    """What the mapping leaves out, and what it may have forgotten."""
    notes = []
    unmapped = sorted(kind for kind in counts if not roles.is_mapped(kind))
    if unmapped and (len(counts) > 1 or len(unmapped) < len(counts)):
        listed = ", ".join(f"{kind} ({counts[kind]:,})" for kind in unmapped)
        notes.append(f"Event types without a role, so positive with weight 1: {listed}.")
    notes += [
        f"Warning: '{kind}' usually means that a user does not want the item, and counts as "
        f"positive; --set events.roles.{kind}=negative changes that."
        for kind in unmapped
        if looks_like_dislike(kind)
    ]
    return notes


def _report(
    engine: Engine,
    name: str,
    clock: Clock,
    notes: list[str],
    counts: dict[str, int],
    roles: Roles,
    lengths: np.ndarray,
) -> DataReport:
    pair = engine.pair.format("user_id", "item_id")
    [(items, pairs, first, last)] = engine.rows(
        f"SELECT count(DISTINCT item_id), count(DISTINCT {pair}), min(time), max(time) FROM events"
    )
    [(dropped,)] = engine.rows("SELECT count(*) FROM dropped")
    [(moved,)] = engine.rows("SELECT count(*) FROM moved")
    events = int(lengths.sum())
    return DataReport(
        name=name,
        clock=clock,
        rows_read=sum(counts.values()),
        duplicates_dropped=dropped,
        ties_separated=moved,
        events=events,
        users=len(lengths),
        items=items,
        catalogue=0,
        one_event_users=int((lengths == 1).sum()),
        density=pairs / (len(lengths) * items),
        first=from_microseconds(first).isoformat(timespec="seconds"),
        last=from_microseconds(last).isoformat(timespec="seconds"),
        events_per_user={label: float(np.quantile(lengths, q)) for label, q in QUANTILES.items()},
        impressions=0,
        click_through=None,
        notes=notes,
        event_types={
            kind: {"role": roles.role(kind), "weight": roles.weight(kind), "events": counts[kind]}
            for kind in sorted(counts)
        },
    )


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def from_microseconds(micros: int) -> datetime:
    """The moment, UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
