"""Records of the event log as rows of the lake, and which records are none and why."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from feature_repo.event_codec import Record
from feature_repo.event_times import CLOCK_TOLERANCE, settled, too_old
from feature_repo.lake.lake import LAKE_IMPRESSIONS, LAKE_INTERACTIONS
from sasrec.data.schema import MAX_ID_LENGTH, PLACED_BY_RULE, TIMESTAMP

MAX_CANDIDATES = 2**31 - 1

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
ITEM_FIELDS = {
    "update_id": str,
    "item_id": str,
    "available": bool,
    "attributes": dict,
    "deleted": bool,
    "timestamp": int,
}


@dataclass(frozen=True)
class Rows:
    """Rows of one batch from the log.

    Attributes:
        interactions: `LAKE_INTERACTIONS`, ordered by (timestamp, event id).
        impressions: `LAKE_IMPRESSIONS`, one row per slot, without a reward.
        quarantined: records left out, counted by reason; they stay in the log.
        items: item records, in no order that counts.
        repeated: records that came before in the same batch: a client's retry.
    """

    interactions: pa.Table
    impressions: pa.Table
    quarantined: Counter[str]
    repeated: int
    items: list[Record] = field(default_factory=list)


def to_rows(
    records: Iterable[Record],
    *,
    now: datetime,
    retention: timedelta,
    batch: int,
    first_sequence: int,
) -> Rows:
    """Sort the records of one batch out.

    Args:
        records: of a repeated (user, event id) or request id the first counts.
        now: events that are settled more than 5 minutes later are from the future.
        retention: events older than this before `now` are left out.
        first_sequence: of the first interaction.
    """
    quarantined: Counter[str] = Counter()
    events: dict[tuple[str, str], Record] = {}
    slates: dict[str, Record] = {}
    items: list[Record] = []
    repeated = 0
    for record in records:
        kind = record.get("type")
        if kind == "event":
            record = settled(record)
            reason = _event_problem(record, now, retention)
        elif kind == "impression":
            reason = _slate_problem(record)
        elif kind == "item":
            reason = _schema_problem(record, ITEM_FIELDS)
        else:
            reason = "unknown record type"
        if reason:
            quarantined[reason] += 1
        elif kind == "event":
            key = (record["user_id"], record["event_id"])
            repeated += key in events
            events.setdefault(key, record)
        elif kind == "item":
            items.append(record)
        else:
            repeated += record["request_id"] in slates
            slates.setdefault(record["request_id"], record)
    ordered = sorted(events.values(), key=lambda event: (event["timestamp"], event["event_id"]))
    return Rows(
        _interactions(ordered, batch, first_sequence),
        _impressions(slates.values(), batch),
        quarantined,
        repeated,
        items,
    )


def _event_problem(event: Record, now: datetime, retention: timedelta) -> str | None:
    if problem := _schema_problem(event, EVENT_FIELDS):
        return problem
    if not isinstance(event.get("request_id"), str | None):
        return "event: schema changed ('request_id' is no str)"
    if event["timestamp"] > _microseconds(now + CLOCK_TOLERANCE):
        return "event: from the future"
    if too_old(event["timestamp"], _microseconds(now), retention):
        return "event: older than the retention"
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
    if not all(isinstance(item, str) for item in slate["item_ids"]):
        return "impression: schema changed (an item id is no str)"
    if not all(isinstance(score, float | int | None) for score in slate["scores"]):
        return "impression: schema changed (a score is no number)"
    rules = slate.get("rules", [])
    if not (isinstance(rules, list) and all(isinstance(rule, str | None) for rule in rules)):
        return "impression: schema changed (a rule is no str)"
    if "rules" in slate and len(rules) != len(slate["item_ids"]):
        return "impression: schema changed (lists of unequal length)"
    if not 0 <= slate["candidates"] <= MAX_CANDIDATES:
        return "impression: candidates outside the range"
    return None


def _schema_problem(record: Record, fields: dict[str, type]) -> str | None:
    for name, kind in fields.items():
        if not isinstance(record.get(name), kind):
            return f"{record['type']}: schema changed ('{name}' is missing or no {kind.__name__})"
    return None


def _interactions(events: list[Record], batch: int, first_sequence: int) -> pa.Table:
    timestamps = pa.array([event["timestamp"] for event in events], pa.int64()).cast(TIMESTAMP)
    return pa.table(
        {
            "user_id": [event["user_id"] for event in events],
            "item_id": [event["item_id"] for event in events],
            "timestamp": timestamps,
            "event_type": [event["event_type"] for event in events],
            "value": pa.nulls(len(events), pa.float32()),
            "sequence": range(first_sequence, first_sequence + len(events)),
            "event_id": [event["event_id"] for event in events],
            "request_id": [event.get("request_id") for event in events],
            "batch": pa.repeat(batch, len(events)),
            "day": days(timestamps),
        },
        schema=LAKE_INTERACTIONS,
    )


def _impressions(slates: Iterable[Record], batch: int) -> pa.Table:
    rows: list[tuple[Any, ...]] = []
    for slate in sorted(slates, key=lambda slate: (slate["timestamp"], slate["request_id"])):
        names = [slate["policy"]] * len(slate["item_ids"])
        for position, rule in enumerate(slate.get("rules", ())):
            if rule is not None:
                names[position] = f"{PLACED_BY_RULE}{rule}"
        slots = zip(slate["item_ids"], slate["scores"], slate["propensities"], names, strict=True)
        for position, (item_id, score, propensity, policy) in enumerate(slots):
            rows.append(
                (
                    slate["request_id"],
                    slate["user_id"],
                    item_id,
                    position,
                    slate["timestamp"],
                    policy,
                    slate["model_version"],
                    score,
                    propensity,
                    slate["candidates"],
                    None,
                    True,
                    batch,
                )
            )
    if not rows:
        return LAKE_IMPRESSIONS.empty_table()
    columns = dict(zip(LAKE_IMPRESSIONS.names[:-1], zip(*rows, strict=True), strict=True))
    timestamps = pa.array(columns["timestamp"], pa.int64()).cast(TIMESTAMP)
    return pa.table(
        columns | {"timestamp": timestamps, "day": days(timestamps)}, schema=LAKE_IMPRESSIONS
    )


def days(timestamps: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """The UTC day of each, as "2026-11-01"."""
    return timestamps.cast(pa.date32(), safe=False).cast(pa.string())


def _microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
