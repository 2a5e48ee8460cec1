"""What the service logged becomes the site's data: every record once, whenever it is killed.

A batch is first fixed in `lake.json`: which bytes of which segments. Each table then takes it under
a transaction of its number, so that taking a batch again, from the same bytes, adds nothing twice.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from feature_repo.event_log import next_span, read_spans, segments
from feature_repo.lake.item_records import item_rows
from feature_repo.lake.lake import Lake
from feature_repo.lake.records import Rows, to_rows
from feature_repo.lake.relations import relations
from feature_repo.lake.state import State

BATCH_BYTES = 32 << 20
"""Of the log, which become rows at a time: some hundred thousand records."""
MEMORY_LIMIT = "1GB"


@dataclass
class Intake:
    """What was taken in, and what was not.

    Attributes:
        events, slots: rows added to the lake.
        items: records of items, which became rows of it.
        repeated: records that the lake had, or that came twice: a client's retry.
        quarantined: records left out, counted by reason; they stay in the log.
        notes: one sentence each, for the data report.
    """

    events: int = 0
    slots: int = 0
    items: int = 0
    repeated: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, rows: Rows) -> None:
        """Count one more batch."""
        self.events += rows.interactions.num_rows
        self.slots += rows.impressions.num_rows
        self.items += len(rows.items)
        self.repeated += rows.repeated
        self.quarantined += rows.quarantined


def recover(lake: Lake, log: Path, *, now: datetime, retention: timedelta) -> Intake:
    """Bring a lake to the end or the beginning of the batch that a killed run left.

    Raises:
        DataError: the batch is of the log, and the log no longer holds it.
    """
    intake, state = Intake(), lake.state
    if not state.complete and state.kind == "log":
        intake.add(_take(lake, state, log, now, retention))
    elif not state.complete:
        lake.take_back()
    return intake


def take_in(lake: Lake, log: Path, *, now: datetime, retention: timedelta) -> Intake:
    """Take in all that the log holds and the lake does not.

    Args:
        log: the folder of the event log; nothing is taken from an absent one.
        now: events more than 5 minutes later are left out.
        retention: events older than this are left out.

    Raises:
        DataError: a segment is damaged, or shorter than what was read of it.
    """
    intake = recover(lake, log, now=now, retention=retention)
    if lake.state.clock == "row-order":
        if segments(log):
            intake.notes.append(
                "The log was not taken in: the data has an order but no time that it could follow."
            )
        return intake
    while True:
        state = lake.state
        spans, unread = _next_spans(log, state)
        if all(start == end for start, end in spans.values()):
            break
        state = state.begin("log", segments=spans, clock="real")
        lake.write_state(state)
        intake.add(_take(lake, state, log, now, retention))
    intake.notes += [
        f"event_log: {name} ends in {rest:,} bytes that are no whole record: they are read when "
        "they are, and were not acknowledged."
        for name, rest in unread.items()
    ]
    return intake


def _next_spans(log: Path, state: State) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """What the next batch reads of each segment, and the bytes that are no whole record yet."""
    spans, unread, left = {}, {}, BATCH_BYTES
    for segment in segments(log):
        _, start = state.segments.get(segment.name, (0, 0))
        end = start
        if left > 0:
            end, rest = next_span(segment, start, max(left, BATCH_BYTES // 4))
            left -= end - start
            if rest:
                unread[segment.name] = rest
        spans[segment.name] = (start, end)
    return spans, unread


def _take(lake: Lake, state: State, log: Path, now: datetime, retention: timedelta) -> Rows:
    rows = to_rows(
        read_spans(log, state.segments),
        now=now,
        retention=retention,
        batch=state.batch,
        first_sequence=state.next_sequence,
    )
    fresh = _without_known(lake, rows, state.batch)
    for table, new in (("interactions", fresh.interactions), ("impressions", fresh.impressions)):
        if new.num_rows:
            lake.append(table, new, state.batch)
    if rows.items:
        with relations(lake, MEMORY_LIMIT) as connection:
            items, misfits = item_rows(connection, rows.items, state.batch)
        lake.append("items", items, state.batch)
        fresh = replace(fresh, quarantined=fresh.quarantined + misfits)
    grown = bool(fresh.interactions.num_rows or fresh.impressions.num_rows or rows.items)
    lake.complete(
        replace(state, next_sequence=state.next_sequence + rows.interactions.num_rows),
        grown=grown,
    )
    return fresh


def _without_known(lake: Lake, rows: Rows, batch: int) -> Rows:
    """Without the events and slates that earlier batches brought."""
    with relations(lake, MEMORY_LIMIT) as connection:
        connection.register("new_interactions", rows.interactions)
        connection.register("new_impressions", rows.impressions)
        interactions = connection.sql(
            "SELECT new.* FROM new_interactions AS new WHERE NOT EXISTS (SELECT 1 FROM"
            " lake_interactions AS known WHERE known.user_id = new.user_id"
            f" AND known.event_id = new.event_id AND known.batch < {batch}) ORDER BY sequence"
        ).to_arrow_table()
        impressions = connection.sql(
            "SELECT new.* FROM new_impressions AS new WHERE NOT EXISTS (SELECT 1 FROM"
            " lake_impressions AS known WHERE known.request_id = new.request_id"
            f" AND known.batch < {batch}) ORDER BY timestamp, request_id, position"
        ).to_arrow_table()
    known_slates = len(rows.impressions["request_id"].unique()) - len(
        impressions["request_id"].unique()
    )
    return replace(
        rows,
        interactions=interactions.cast(rows.interactions.schema),
        impressions=impressions.cast(rows.impressions.schema),
        repeated=rows.repeated
        + (rows.interactions.num_rows - interactions.num_rows)
        + known_slates,
    )
