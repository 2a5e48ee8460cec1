"""Cleaning: what is wrong stops the run, what is merely untidy is put right and counted."""

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP, check
from sasrec.data.source import Source
from sasrec.errors import DataError

# Local times read as UTC run up to 14 hours ahead; more than a day is a wrong unit or clock.
FUTURE_TOLERANCE = timedelta(days=1)

QUANTILES = {"min": 0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "max": 1}


@dataclass(frozen=True)
class DataReport:
    """What a data set holds after cleaning, and what cleaning did.

    Attributes:
        name, clock, notes: as in `Source`.
        rows_read: interactions before cleaning.
        duplicates_dropped: rows equal to an earlier one in user, item, timestamp and event type.
        ties_separated: events moved by a few microseconds so that time orders their user.
        events, users, items: after cleaning; `items` counts those with an interaction.
        catalogue: rows of the item table.
        one_event_users: users with a single event: kept, but nothing can be learnt from them.
        density: distinct (user, item) pairs / (users x items).
        first, last: ISO 8601 times of the first and the last event.
        events_per_user: quantiles {"min", "p25", "median", "p75", "p95", "max"}.
        impressions: rows of the impression log.
        click_through: mean logged reward, null without impressions.
        event_types: type -> its role, weight and rows read.
        left_out: reason -> records of the log that this run did not take in.
        repeated_targets: share of the validation and test targets that their user had before.
        taken_in: what this run added to the site's data: "imported", "logged", "slots".
    """

    name: str
    clock: str
    rows_read: int
    duplicates_dropped: int
    ties_separated: int
    events: int
    users: int
    items: int
    catalogue: int
    one_event_users: int
    density: float
    first: str
    last: str
    events_per_user: dict[str, float]
    impressions: int
    click_through: float | None
    notes: list[str]
    event_types: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    taken_in: dict[str, int] = field(default_factory=dict)
    repeated_targets: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    def to_markdown(self) -> str:
        """A table to read, notes below it."""
        lengths = ", ".join(f"{name} {value:g}" for name, value in self.events_per_user.items())
        rows = [
            ("events", f"{self.events:,} of {self.rows_read:,} rows"),
            ("users", f"{self.users:,} ({self.one_event_users:,} with a single event)"),
            ("items", f"{self.items:,} with events, {self.catalogue:,} in the catalogue"),
            ("density", f"{self.density:.3%}"),
            ("time", f"{self.first} to {self.last} ({self.clock} clock)"),
            ("events per user", lengths),
            ("duplicates dropped", f"{self.duplicates_dropped:,}"),
            ("ties separated", f"{self.ties_separated:,}"),
            ("impressions", f"{self.impressions:,}"),
        ]
        if self.repeated_targets is not None:
            rows.append(("targets seen before", f"{self.repeated_targets:.1%}"))
        if self.click_through is not None:
            rows.append(("click-through", f"{self.click_through:.2%}"))
        for kind, role in self.event_types.items():
            weight = f" with weight {role['weight']:g}" if role["role"] == "positive" else ""
            rows.append((f"event type {kind}", f"{role['events']:,}, {role['role']}{weight}"))
        rows += [(f"taken in: {what}", f"{count:,}") for what, count in self.taken_in.items()]
        rows += [(f"left out: {why}", f"{count:,}") for why, count in self.left_out.items()]
        table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"### Data: {self.name}", "", *table, *([""] if notes else []), *notes])


def clean(source: Source, *, now: datetime | None = None) -> tuple[Source, DataReport]:
    """Check a source against the contracts and put its interactions in canonical order.

    The result is sorted by user_id, then time; within a user timestamps strictly increase: equal
    ones are spread by 1 us in the order of `sequence`, so t'_i = max(t_i, t'_(i-1) + 1 us). From
    here on time alone orders a history, in every store and on every machine.

    Args:
        source: as `sasrec.data.sources.load` gives it.
        now: timestamps more than a day later are errors; the current time by default.

    Raises:
        DataError: a missing column, a wrong type, an empty or null id, a time in the future, no
            interactions at all, no user with two events, an item described twice, an impression
            logged twice, a propensity outside (0, 1] or a reward outside [0, 1].
    """
    now = now or datetime.now(UTC)
    interactions = checked_interactions(source.interactions, source.name, now=now)
    items = checked_items(source.items, source.name)
    impressions = checked_impressions(source.impressions, source.name)

    users, user = _codes(interactions["user_id"])
    _, item = _codes(interactions["item_id"])
    _, event = _codes(interactions["event_type"])
    time = interactions["timestamp"].cast(pa.int64()).to_numpy()
    sequence = interactions["sequence"].to_numpy()

    first_of_its_kind = ~_duplicated(user, item, time, event, sequence)
    order = np.lexsort((sequence, time, user))
    order = order[first_of_its_kind[order]]
    user, time = user[order], time[order]
    separated = separate_ties(user, time)
    lengths = np.bincount(user, minlength=len(users))
    if lengths.max() < 2:
        raise DataError(
            f"{source.name}: no user has two events, so there is no next item to learn; "
            "is 'user_id' the right column? --column user_id=NAME takes another"
        )

    interactions = interactions.take(order)
    position = interactions.schema.get_field_index("timestamp")
    interactions = interactions.set_column(
        position, INTERACTIONS.field("timestamp"), pa.array(separated).cast(TIMESTAMP)
    )
    cleaned = replace(source, interactions=interactions, items=items, impressions=impressions)
    pairs = len(pd.DataFrame({"user": user, "item": item[order]}).drop_duplicates())
    num_items = len(np.unique(item[order]))
    report = DataReport(
        name=source.name,
        clock=source.clock,
        rows_read=len(first_of_its_kind),
        duplicates_dropped=int((~first_of_its_kind).sum()),
        ties_separated=int((separated != time).sum()),
        events=len(order),
        users=len(users),
        items=num_items,
        catalogue=len(items),
        one_event_users=int((lengths == 1).sum()),
        density=pairs / (len(users) * num_items),
        first=pc.min(interactions["timestamp"]).as_py().isoformat(timespec="seconds"),
        last=pc.max(interactions["timestamp"]).as_py().isoformat(timespec="seconds"),
        events_per_user={name: float(np.quantile(lengths, q)) for name, q in QUANTILES.items()},
        impressions=len(impressions),
        click_through=pc.mean(impressions["reward"]).as_py() if len(impressions) else None,
        notes=[*source.notes, *_told_ahead(interactions, now)],
    )
    return cleaned, report


def told_ahead(latest: datetime, now: datetime, events: int) -> list[str]:
    """A note on events that lie ahead of the run, as local times that are read as UTC do."""
    if not events:
        return []
    hours = (latest - now).total_seconds() / 3600
    return [
        f"{events:,} events lie in the future, the last by {hours:.1f} hours: if these are local "
        "times, write their offset (+09:00). They count, and features as of now do not hold them."
    ]


def separate_ties(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Strictly increasing times per user: t'_i = max(t_i, t'_(i-1) + 1).

    With r_i the row number, u_i = t_i - r_i turns the recurrence into a running maximum:
    t'_i = r_i + max(u_j for j <= i).

    Args:
        user: (N,) int, equal users adjacent.
        time: (N,) int64 microseconds, non-decreasing within a user.
    """
    row = np.arange(len(time))
    return pd.Series(time - row).groupby(user, sort=False).cummax().to_numpy() + row


def _told_ahead(interactions: pa.Table, now: datetime) -> list[str]:
    time = interactions["timestamp"]
    ahead = pc.sum(pc.greater(time, pa.scalar(now, TIMESTAMP))).as_py() or 0
    return told_ahead(pc.max(time).as_py(), now, ahead)


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in ascending order, and each row's position among them."""
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary
    order = pc.array_sort_indices(values).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return values.take(pa.array(order)).to_numpy(zero_copy_only=False), rank[
        encoded.indices.to_numpy()
    ]


def _duplicated(user, item, time, event, sequence) -> np.ndarray:
    """Rows that repeat one of an earlier `sequence`."""
    keys = pd.DataFrame({"user": user, "item": item, "time": time, "event": event})
    by_sequence = np.argsort(sequence, kind="stable")
    duplicated = np.empty(len(keys), dtype=bool)
    duplicated[by_sequence] = keys.iloc[by_sequence].duplicated().to_numpy()
    return duplicated


def checked_interactions(
    interactions: pa.Table, name: str, *, now: datetime, first_row: int = 0
) -> pa.Table:
    """The interactions of the source `name` under their contract, in the order that they have.

    Args:
        now: timestamps more than a day later are errors.
        first_row: of a part of the source.

    Raises:
        DataError: a missing column, a wrong type, an empty or null id, a time in the future, or no
            rows.
    """
    where = f"{name} interactions"
    interactions = check(interactions, INTERACTIONS, source=where)
    if not interactions.num_rows:
        raise DataError(f"{where}: there are no rows; write one row per event")
    for column in ("user_id", "item_id"):
        _reject(
            pc.equal(interactions[column], ""),
            f"{where}: column '{column}' is empty",
            "fill it in, or remove the row",
            first_row,
        )
    latest = pa.scalar(now + FUTURE_TOLERANCE, TIMESTAMP)
    _reject(
        pc.greater(interactions["timestamp"], latest),
        f"{where}: column 'timestamp' lies more than a day in the future",
        "correct the unit or the clock, or remove the rows",
        first_row,
    )
    return interactions


def checked_items(items: pa.Table, name: str) -> pa.Table:
    """The items of the source `name` under their contract.

    Raises:
        DataError: a missing column, a wrong type, or an item described twice.
    """
    items = check(items, ITEMS, source=f"{name} items")
    repeated = items["item_id"].to_pandas().duplicated().to_numpy()
    _reject(
        repeated,
        f"{name} items: column 'item_id' describes an item for the second time",
        "keep one row per item",
    )
    return items


def checked_impressions(impressions: pa.Table, name: str) -> pa.Table:
    """The impressions of the source `name` under their contract.

    Raises:
        DataError: a missing column, a wrong type, a slot logged twice, a propensity outside (0, 1]
            or a reward outside [0, 1].
    """
    where = f"{name} impressions"
    impressions = check(impressions, IMPRESSIONS, source=where)
    propensity = impressions["propensity"]
    inside = pc.and_(pc.greater(propensity, 0), pc.less_equal(propensity, 1))
    _reject(
        pc.invert(inside),
        f"{where}: column 'propensity' is outside (0, 1]",
        "write the probability that the policy gave to the slot, or remove the row",
    )
    reward = impressions["reward"].fill_null(0)
    inside = pc.and_(pc.greater_equal(reward, 0), pc.less_equal(reward, 1))
    _reject(
        pc.invert(inside),
        f"{where}: column 'reward' is outside [0, 1]",
        "scale it, or leave it empty where it is unknown",
    )
    slots = impressions.select(["request_id", "position"]).to_pandas()
    _reject(
        slots.duplicated().to_numpy(),
        f"{where}: columns 'request_id', 'position' hold a slot for the second time",
        "keep one row per request and position",
    )
    return impressions


def _reject(bad: np.ndarray | pa.ChunkedArray, problem: str, fix: str, first_row: int = 0) -> None:
    row = pc.index(pa.chunked_array([bad]) if isinstance(bad, np.ndarray) else bad, True).as_py()
    if row >= 0:
        raise DataError(f"{problem} at row {first_row + row}; {fix}")
