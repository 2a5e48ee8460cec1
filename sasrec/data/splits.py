"""Where the past ends and the future begins: what is trained on, and what must be foretold.

A split holds no histories: they come from the feature store as of each cutoff, which is how they
come in production as well.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

from sasrec.data.repeats import Repeats, choose_repeats
from sasrec.data.schema import TIMESTAMP
from sasrec.data.source import Clock, Source
from sasrec.errors import DataError

SplitKind = Literal["global-time", "leave-one-out"]

CUTOFFS = pa.schema([("fold", pa.string()), ("user_id", pa.string()), ("cutoff", TIMESTAMP)])
TARGETS = pa.schema(
    [
        ("fold", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", TIMESTAMP),
    ]
)
CUTOFFS_FILE, TARGETS_FILE = "cutoffs.parquet", "targets.parquet"
KNOWN_ITEMS_FILE, DESCRIPTION_FILE = "known_items.json", "split.json"


class NothingNewer(DataError):
    """Too few events happened since the moment after which a split was to begin."""


@dataclass(frozen=True)
class Split:
    """Train, validation and test folds of one data set.

    Attributes:
        kind: the protocol.
        cutoffs: schema `CUTOFFS`: a row per fold ("train", "validation", "test") and user; the
            history is what the user did strictly before the cutoff, and is never empty.
        targets: schema `TARGETS`: what users of the folds "validation" and "test" did next, in
            the order of `cutoffs`, then of time.
        known_items: ids in ascending order that a model trained on this split may know.
        t1, t2: start of validation and of test; null for leave-one-out.
        sha256: of `cutoffs` and `targets`, equal on every machine; published with every metric.
        counts: users and targets per fold, users left out.
        since: the fractions of the folds count the events after it; None for all.
        repeats: of `sasrec.data.repeats.choose_repeats`; None where nobody asked.
    """

    kind: SplitKind
    cutoffs: pa.Table
    targets: pa.Table
    known_items: list[str]
    t1: datetime | None
    t2: datetime | None
    sha256: str
    counts: dict[str, int]
    since: datetime | None = None
    repeats: dict[str, Any] | None = None

    def describe(self) -> dict[str, Any]:
        """What is published beside every metric measured on this split, as JSON can hold it."""
        description = describe(self.kind, self.sha256, self.t1, self.t2, self.counts)
        description |= {"since": self.since.isoformat()} if self.since else {}
        return description | ({"repeats": self.repeats} if self.repeats else {})

    def save(self, directory: Path) -> None:
        """Write `cutoffs.parquet`, `targets.parquet`, `known_items.json` and `split.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.cutoffs, directory / CUTOFFS_FILE)
        pq.write_table(self.targets, directory / TARGETS_FILE)
        (directory / KNOWN_ITEMS_FILE).write_text(json.dumps(self.known_items))
        (directory / DESCRIPTION_FILE).write_text(json.dumps(self.describe(), indent=2))

    @classmethod
    def load(cls, directory: Path) -> "Split":
        """Read what `save` wrote."""
        description = json.loads((directory / DESCRIPTION_FILE).read_text())
        t1, t2, since = (
            datetime.fromisoformat(description[name]) if description.get(name) else None
            for name in ("t1", "t2", "since")
        )
        return cls(
            kind=description["kind"],
            cutoffs=pq.read_table(directory / CUTOFFS_FILE),
            targets=pq.read_table(directory / TARGETS_FILE),
            known_items=json.loads((directory / KNOWN_ITEMS_FILE).read_text()),
            t1=t1,
            t2=t2,
            sha256=description["sha256"],
            counts=description["counts"],
            since=since,
            repeats=description.get("repeats"),
        )


def split_source(
    source: Source,
    kind: SplitKind,
    *,
    validation_fraction: float,
    test_fraction: float,
    since: datetime | None = None,
    repeats: Repeats | None = None,
) -> Split:
    """The split `kind` of a cleaned source; the fractions and `since` are those of `global_time`.

    Args:
        repeats: as `sasrec.data.repeats.choose_repeats` takes it.

    Raises:
        DataError: the source has no clock that a global cut could use, or a fold is empty; or
            there is a `since`, and no cut in time.
    """
    if kind == "leave-one-out":
        if since is not None:
            raise DataError(
                "split: leave-one-out knows no moment after which events are new; use --split "
                "global-time"
            )
        split = leave_one_out(source.interactions)
    else:
        refuse_row_order(source.clock, source.name)
        split = global_time(
            source.interactions,
            items=source.items,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            since=since,
        )
    share = _repeated_targets(split, source.interactions)
    return replace(split, repeats=choose_repeats(share, repeats))


def _repeated_targets(split: Split, interactions: pa.Table) -> float:
    """Share of the targets that are items of their user's history."""
    met = interactions.select(["user_id", "item_id", "timestamp"])
    first = met.group_by(["user_id", "item_id"]).aggregate([("timestamp", "min")])
    targets = split.targets.join(split.cutoffs, ["fold", "user_id"])
    targets = targets.join(first, ["user_id", "item_id"])
    return pc.mean(pc.less(targets["timestamp_min"], targets["cutoff"])).as_py()


def global_time(
    interactions: pa.Table,
    *,
    items: pa.Table | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    since: datetime | None = None,
) -> Split:
    """Train before t1, validate in [t1, t2), test from t2 on: no information crosses a cut.

    Users without a history before a cut are left out of its fold, and counted.

    Args:
        interactions: cleaned, schema `INTERACTIONS`.
        items: schema `ITEMS`; an item launched before t1 is known even if nobody has met it yet.
        validation_fraction: share of all events in [t1, t2).
        test_fraction: share of all events from t2 on.
        since: count both fractions among the events after this moment, so that t1 lies after it.

    Raises:
        DataError: the fractions leave a fold without users, or nothing is newer than `since`.
    """
    refuse_fractions(validation_fraction, test_fraction)
    history = _History.of(interactions)
    counted = history.time if since is None else history.time[history.time > _micros(since)]
    if not len(counted):
        raise NothingNewer(f"split: nothing is newer than {since}, which the champion has seen")
    edges = np.quantile(
        counted, [1 - validation_fraction - test_fraction, 1 - test_fraction], method="higher"
    )
    # Down to the second: ties were spread over microseconds, and no cut may part them.
    t1, t2 = (int(edge) // 1_000_000 * 1_000_000 for edge in edges)
    if since is not None:
        t1 = max(t1, _micros(since) // 1_000_000 * 1_000_000 + 1_000_000)
        t2 = max(t1, t2)
    folds = {
        "train": (t1, None),
        "validation": (t1, t2),
        "test": (t2, np.iinfo(np.int64).max),
    }
    cutoffs, targets, counts = [], [], {}
    for fold, (start, end) in folds.items():
        has_history = history.first < start
        if end is None:
            users = np.flatnonzero(has_history)
        else:
            inside = (history.time >= start) & (history.time < end)
            active = np.bincount(history.user[inside], minlength=len(history.first)) > 0
            users = np.flatnonzero(active & has_history)
            rows = np.flatnonzero(inside & has_history[history.user])
            targets.append(_targets(fold, interactions, rows))
            counts[f"{fold}_targets"] = len(rows)
            counts[f"{fold}_users_without_history"] = int((active & ~has_history).sum())
        counts[f"{fold}_users"] = len(users)
        cutoffs.append(_cutoffs(fold, history.user_ids, users, np.full(len(users), start)))
    known = interactions["item_id"].filter(pa.array(history.time < t1))
    if items is not None:
        launched = pc.less(items["created_at"], pa.scalar(t1, pa.int64()).cast(TIMESTAMP))
        both = [*known.chunks, *items["item_id"].filter(launched).chunks]
        known = pa.chunked_array(both, pa.string())
    refuse_empty_folds("global-time", counts, since)
    return replace(_split("global-time", cutoffs, targets, known, t1, t2, counts), since=since)


def _micros(moment: datetime) -> int:
    return pa.scalar(moment, TIMESTAMP).cast(pa.int64()).as_py()


def leave_one_out(interactions: pa.Table) -> Split:
    """Each user's last event is the test target, the one before it the validation target.

    The protocol of the SASRec paper (Kang & McAuley, 2018, section IV-B): the test history
    includes the validation event; users with fewer than three events only train. All items are
    known.

    Args:
        interactions: cleaned, schema `INTERACTIONS`.

    Raises:
        DataError: no user has three events.
    """
    history = _History.of(interactions)
    evaluated = np.flatnonzero(history.length >= 3)
    last = history.start + history.length - 1
    # Exclusive, so "just after the last event" lets the short histories in whole.
    train_cutoff = np.where(history.length >= 3, history.time[last - 1], history.time[last] + 1)
    everyone = np.arange(len(history.length))
    cutoffs = [_cutoffs("train", history.user_ids, everyone, train_cutoff)]
    targets = []
    for fold, row in (("validation", last[evaluated] - 1), ("test", last[evaluated])):
        cutoffs.append(_cutoffs(fold, history.user_ids, evaluated, history.time[row]))
        targets.append(_targets(fold, interactions, row))
    counts = {
        "train_users": len(everyone),
        "validation_users": len(evaluated),
        "test_users": len(evaluated),
        "validation_targets": len(evaluated),
        "test_targets": len(evaluated),
        "users_too_short_to_evaluate": len(everyone) - len(evaluated),
    }
    return _split("leave-one-out", cutoffs, targets, interactions["item_id"], None, None, counts)


def training_lengths(split: Split, interactions: pa.Table) -> np.ndarray:
    """(B,) int64, how many events each training history has.

    Args:
        interactions: that were split.
    """
    cutoffs = split.cutoffs.filter(pc.equal(split.cutoffs["fold"], "train"))
    events = interactions.select(["user_id", "timestamp"])
    events = events.join(cutoffs.drop_columns(["fold"]), "user_id", join_type="inner")
    learned = events.filter(pc.less(events["timestamp"], events["cutoff"]))
    counted = learned.group_by("user_id").aggregate([("timestamp", "count")])
    return counted["timestamp_count"].to_numpy()


@dataclass(frozen=True)
class _History:
    """Cleaned interactions as arrays: U users in order, N events grouped by user, oldest first."""

    user_ids: pa.Array  # (U,)
    user: np.ndarray  # (N,) position in user_ids
    time: np.ndarray  # (N,) microseconds, strictly increasing within a user
    start: np.ndarray  # (U,) row of the first event
    length: np.ndarray  # (U,)
    first: np.ndarray  # (U,) time of the first event

    @classmethod
    def of(cls, interactions: pa.Table) -> "_History":
        if not interactions.num_rows:
            raise DataError("split: there are no interactions")
        encoded = interactions["user_id"].combine_chunks().dictionary_encode()
        user = encoded.indices.to_numpy()
        time = interactions["timestamp"].cast(pa.int64()).to_numpy()
        same_user = user[1:] == user[:-1]
        if (np.diff(user) < 0).any() or (same_user & (np.diff(time) <= 0)).any():
            raise DataError("split: interactions are not in canonical order; clean() them first")
        length = np.bincount(user)
        start = np.concatenate([[0], np.cumsum(length)[:-1]])
        return cls(encoded.dictionary, user, time, start, length, time[start])


def _cutoffs(fold: str, user_ids: pa.Array, users: np.ndarray, time: np.ndarray) -> pa.Table:
    columns = [
        pa.repeat(fold, len(users)),
        user_ids.take(pa.array(users)),
        pa.array(time, pa.int64()).cast(TIMESTAMP),
    ]
    return pa.table(columns, schema=CUTOFFS)


def _targets(fold: str, interactions: pa.Table, rows: np.ndarray) -> pa.Table:
    events = interactions.select(TARGETS.names[1:]).take(pa.array(rows))
    return pa.table([pa.repeat(fold, len(rows)), *events.columns], schema=TARGETS)


def _split(kind, cutoffs, targets, known, t1, t2, counts) -> Split:
    refuse_empty_folds(kind, counts)
    cutoffs, targets = pa.concat_tables(cutoffs), pa.concat_tables(targets)
    known_items = sorted(pc.unique(known).to_pylist())
    counts["known_items"] = len(known_items)
    t1, t2 = (
        None if t is None else pa.scalar(t, pa.int64()).cast(TIMESTAMP).as_py() for t in (t1, t2)
    )
    return Split(kind, cutoffs, targets, known_items, t1, t2, _sha256(cutoffs, targets), counts)


def describe(
    kind: SplitKind, sha256: str, t1: datetime | None, t2: datetime | None, counts: dict[str, int]
) -> dict[str, Any]:
    """What `split.json` holds."""
    return {
        "kind": kind,
        "sha256": sha256,
        "t1": t1 and t1.isoformat(),
        "t2": t2 and t2.isoformat(),
        "counts": counts,
    }


def refuse_row_order(clock: Clock, name: str) -> None:
    """Raises: DataError: the data `name` has no time that a global cut could use."""
    if clock == "row-order":
        raise DataError(
            f"split: {name} has an order but no time, so no moment cuts all its users; "
            "use --split leave-one-out"
        )


def refuse_fractions(validation_fraction: float, test_fraction: float) -> None:
    """Raises: DataError: the shares of a global cut leave nothing to train on."""
    if not 0 < validation_fraction < 1 or not 0 < test_fraction < 1 - validation_fraction:
        raise DataError(
            "split: validation_fraction and test_fraction must be positive and sum to below 1, "
            f"got {validation_fraction} and {test_fraction}"
        )


def refuse_empty_folds(
    kind: SplitKind, counts: dict[str, int], since: datetime | None = None
) -> None:
    """Raises: DataError: a fold has no users; `NothingNewer` if that is for want of new events."""
    for fold in ("train", "validation", "test"):
        if not counts[f"{fold}_users"]:
            if since is not None:
                raise NothingNewer(f"split: too little is newer than {since} to fill '{fold}'")
            raise DataError(
                f"split {kind}: the fold '{fold}' has no users; "
                "use more data, other fractions or the other split"
            )


def digest_of(cutoffs: Path, targets: Path) -> str:
    """The sha256 of a split from its two files, or folders of files, a part at a time."""
    return _digest(
        map(pa.Table.from_batches, ([batch] for batch in dataset.dataset(path).to_batches()))
        for path in (cutoffs, targets)
    )


def _sha256(cutoffs: pa.Table, targets: pa.Table) -> str:
    return _digest([[cutoffs], [targets]])


def _digest(tables: Iterable[Iterable[pa.Table]]) -> str:
    """Over one line per row, fields joined by the unit separator, times in microseconds."""
    digest = hashlib.sha256()
    for parts in tables:
        separator = b""
        for table in parts:
            fields = [
                column.cast(TIMESTAMP).cast(pa.int64()).cast(pa.string())
                if pa.types.is_timestamp(column.type)
                else column
                for column in table.columns
            ]
            for chunk in pc.binary_join_element_wise(*fields, "\x1f").chunks:
                if len(chunk):
                    lines = pa.ListArray.from_arrays(pa.array([0, len(chunk)]), chunk)
                    digest.update(separator + pc.binary_join(lines, "\n")[0].as_py().encode())
                    separator = b"\n"
        digest.update(b"\x1e")
    return digest.hexdigest()
