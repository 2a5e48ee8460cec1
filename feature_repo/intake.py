"""What serving logged becomes the next run's interactions and impressions.

`python -m feature_repo.intake --home HOME --dataset DATASET --into FOLDER` adds it to what the last
run was trained on; FOLDER is the next run's data set.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from feature_repo.command_line import Home, Log, log_of, run
from feature_repo.event_log import Record, read_log
from sasrec.data import sources
from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, TIMESTAMP
from sasrec.errors import DataError

MAX_ID_LENGTH = 256
CLOCK_TOLERANCE = timedelta(minutes=5)

EVENT_FIELDS = {
    "event_id": str,
    "user_id": str,
    "item_id": str,
    "event_type": str,
    "timestamp": int,
}
SLATE_FIELDS = {
    "request_id": str,
    "user_id": str,
    "timestamp": int,
    "policy": str,
    "model_version": str,
    "candidates": int,
    "item_ids": list,
    "scores": list,
    "propensities": list,
}


@dataclass(frozen=True)
class Intake:
    """Tables from the log, and what was left out of them.

    Attributes:
        interactions: `sasrec.data.schema.INTERACTIONS`, ordered by (timestamp, event id).
        impressions: `sasrec.data.schema.IMPRESSIONS`, one row per slot. `reward` is 1 if the item
            was acted on within the attribution window, 0 if the window closed without, and null
            while it is open.
        quarantined: records left out, counted by reason; they stay in the log.
    """

    interactions: pa.Table
    impressions: pa.Table
    quarantined: dict[str, int] = field(default_factory=dict)


def take_in(
    records: Iterable[Record],
    *,
    now: datetime,
    attribution_window: timedelta = timedelta(hours=24),
    retention: timedelta = timedelta(days=3650),
    event_types: frozenset[str] | None = None,
) -> Intake:
    """Turn log records into tables.

    An event is attributed to the slot of its request that showed its item to its user, if it
    happened within the window after. An event without a request id is an interaction alone.

    Args:
        records: as `event_log.read_log` yields them; of a repeated (user, event id) or request id
            the first counts.
        now: events more than 5 minutes later are from the future.
        attribution_window: from an impression to the events that count for it.
        retention: events older than this before `now` are left out.
        event_types: the known ones; None takes any.
    """
    quarantined: Counter[str] = Counter()
    events: dict[tuple[str, str], Record] = {}
    slates: dict[str, Record] = {}
    for record in records:
        kind = record.get("type")
        if kind == "event":
            reason = _event_problem(record, now, retention, event_types)
        elif kind == "impression":
            reason = _slate_problem(record)
        else:
            reason = "unknown record type"
        if reason:
            quarantined[reason] += 1
        elif kind == "event":
            events.setdefault((record["user_id"], record["event_id"]), record)
        else:
            slates.setdefault(record["request_id"], record)
    ordered = sorted(events.values(), key=lambda event: (event["timestamp"], event["event_id"]))
    return Intake(
        _interactions(ordered),
        _impressions(slates.values(), ordered, now, attribution_window),
        dict(quarantined),
    )


def _event_problem(
    event: Record, now: datetime, retention: timedelta, event_types: frozenset[str] | None
) -> str | None:
    if problem := _schema_problem(event, EVENT_FIELDS):
        return problem
    if event["timestamp"] > _microseconds(now + CLOCK_TOLERANCE):
        return "event: from the future"
    if event["timestamp"] < _microseconds(now - retention):
        return "event: older than the retention"
    if event_types is not None and event["event_type"] not in event_types:
        return "event: unknown event_type"
    if any(
        not 0 < len(event[name]) <= MAX_ID_LENGTH for name in ("event_id", "user_id", "item_id")
    ):
        return "event: id empty or oversized"
    return None


def _slate_problem(slate: Record) -> str | None:
    if slate.get("user_id") is None:
        return "impression: anonymous"
    if problem := _schema_problem(slate, SLATE_FIELDS):
        return problem
    if not len(slate["item_ids"]) == len(slate["scores"]) == len(slate["propensities"]):
        return "impression: schema changed (lists of unequal length)"
    if not all(isinstance(p, float) and 0 < p <= 1 for p in slate["propensities"]):
        return "impression: propensity outside (0, 1]"
    return None


def _schema_problem(record: Record, fields: dict[str, type]) -> str | None:
    for name, kind in fields.items():
        if not isinstance(record.get(name), kind):
            return f"{record['type']}: schema changed ('{name}' is missing or no {kind.__name__})"
    return None


def _interactions(events: list[Record]) -> pa.Table:
    return pa.table(
        {
            "user_id": [event["user_id"] for event in events],
            "item_id": [event["item_id"] for event in events],
            "timestamp": _timestamps([event["timestamp"] for event in events]),
            "event_type": [event["event_type"] for event in events],
            "value": pa.nulls(len(events), pa.float32()),
            "sequence": range(len(events)),
        },
        schema=INTERACTIONS,
    )


def _impressions(
    slates: Iterable[Record], events: list[Record], now: datetime, window: timedelta
) -> pa.Table:
    acted: dict[tuple[str, str, str], list[int]] = {}
    for event in events:
        if event.get("request_id"):
            key = (event["request_id"], event["user_id"], event["item_id"])
            acted.setdefault(key, []).append(event["timestamp"])
    length = window // timedelta(microseconds=1)

    def reward(slate: Record, item_id: str) -> float | None:
        shown = slate["timestamp"]
        times = acted.get((slate["request_id"], slate["user_id"], item_id), [])
        if any(shown <= time <= shown + length for time in times):
            return 1.0
        return 0.0 if shown + length < _microseconds(now) else None

    rows: list[tuple[Any, ...]] = []
    for slate in sorted(slates, key=lambda slate: (slate["timestamp"], slate["request_id"])):
        slots = zip(slate["item_ids"], slate["scores"], slate["propensities"], strict=True)
        for position, (item_id, score, propensity) in enumerate(slots):
            rows.append(
                (
                    slate["request_id"],
                    slate["user_id"],
                    item_id,
                    position,
                    slate["timestamp"],
                    slate["policy"],
                    slate["model_version"],
                    score,
                    propensity,
                    slate["candidates"],
                    reward(slate, item_id),
                )
            )
    columns = dict(zip(IMPRESSIONS.names, zip(*rows, strict=True), strict=True)) if rows else {}
    if not columns:
        return IMPRESSIONS.empty_table()
    columns["timestamp"] = _timestamps(columns["timestamp"])
    return pa.table(columns, schema=IMPRESSIONS)


def _timestamps(microseconds: Iterable[int]) -> pa.Array:
    return pa.array(microseconds, pa.int64()).cast(TIMESTAMP)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def main(
    home: Home,
    into: Annotated[Path, typer.Option(help="Folder to write; made if absent.")],
    dataset: Annotated[
        str | None, typer.Option(help="What to add the log to, as pipeline.py run reads it.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the raw files of a named data set.")
    ] = None,
    log: Log = None,
    window: Annotated[float, typer.Option(help="Attribution window, hours.")] = 24,
    retention: Annotated[float, typer.Option(help="Oldest event to take, days.")] = 3650,
    event_type: Annotated[
        list[str] | None, typer.Option(help="A known event type; repeatable. Any by default.")
    ] = None,
) -> None:
    """Write the next run's data set, and say what was left out of it and why."""
    taken = take_in(
        read_log(log_of(home, log)),
        now=datetime.now(UTC),
        attribution_window=timedelta(hours=window),
        retention=timedelta(days=retention),
        event_types=frozenset(event_type) if event_type else None,
    )
    into.mkdir(parents=True, exist_ok=True)
    interactions, impressions = taken.interactions, taken.impressions
    if dataset:
        base = sources.load(dataset, data_dir=data_dir)
        if base.clock != "real":
            raise DataError(f"{dataset}: it has an order but no time, so no log can follow it")
        interactions = _after(base.interactions, interactions)
        # A request taken in before may have been rewarded since.
        known = pc.is_in(base.impressions["request_id"], impressions["request_id"])
        impressions = pa.concat_tables(
            [base.impressions.filter(pc.invert(known)).cast(IMPRESSIONS), impressions]
        )
        pq.write_table(base.items, into / "items.parquet")
    pq.write_table(interactions, into / "interactions.parquet")
    pq.write_table(impressions, into / "impressions.parquet")
    print(
        f"{into}: {interactions.num_rows:,} interactions, {taken.interactions.num_rows:,} of them "
        f"from the log; {impressions.num_rows:,} impressions, {taken.impressions.num_rows:,} of "
        "them from the log"
    )
    for reason, records in sorted(taken.quarantined.items()):
        print(f"left out: {records:,} × {reason}")


def _after(base: pa.Table, logged: pa.Table) -> pa.Table:
    """Both, the source order of `logged` after that of `base`."""
    first = (pc.max(base["sequence"]).as_py() or 0) + 1
    position = logged.schema.get_field_index("sequence")
    shifted = pc.add(logged["sequence"], first)
    logged = logged.set_column(position, INTERACTIONS.field(position), shifted)
    return pa.concat_tables([base.cast(INTERACTIONS), logged])


if __name__ == "__main__":
    run(main)
