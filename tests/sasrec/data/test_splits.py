from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sasrec.data.schema import INTERACTIONS, ITEMS
from sasrec.data.splits import NothingNewer, global_time, leave_one_out
from sasrec.errors import DataError

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def interactions(events: dict[str, list[tuple[str, int]]]) -> pa.Table:
    rows = [
        {"user_id": user, "item_id": item, "timestamp": at(minute), "event_type": "e"}
        for user in sorted(events)
        for item, minute in events[user]
    ]
    rows = [{**row, "sequence": n} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(rows, INTERACTIONS)


# Ten events in time order; with fractions of .2 the cuts fall at minutes 6 and 8.
EVENTS = {
    "ann": [("a", 0), ("b", 3), ("c", 6), ("d", 8)],
    "ben": [("a", 1), ("b", 2), ("a", 7)],
    "cat": [("a", 4)],
    "new": [("e", 9)],
    "old": [("b", 5)],
}


def rows(table: pa.Table, fold: str) -> list[tuple]:
    part = table.filter(pc.equal(table["fold"], fold)).drop_columns("fold")
    return [tuple(row.values()) for row in part.to_pylist()]


def test_global_time_folds():
    split = global_time(interactions(EVENTS), validation_fraction=0.2, test_fraction=0.2)
    assert (split.t1, split.t2) == (at(6), at(8))
    assert rows(split.cutoffs, "train") == [(user, at(6)) for user in ("ann", "ben", "cat", "old")]
    assert rows(split.cutoffs, "validation") == [("ann", at(6)), ("ben", at(6))]
    assert rows(split.targets, "validation") == [("ann", "c", at(6)), ("ben", "a", at(7))]
    assert rows(split.cutoffs, "test") == [("ann", at(8))]
    assert rows(split.targets, "test") == [("ann", "d", at(8))]
    assert split.counts["test_users_without_history"] == 1
    assert split.known_items == ["a", "b"]


def test_global_time_knows_items_launched_before_the_cut():
    items = pa.Table.from_pylist(
        [
            {"item_id": "launched", "created_at": at(1)},
            {"item_id": "later", "created_at": at(6)},
            {"item_id": "undated", "created_at": None},
        ],
        ITEMS,
    )
    split = global_time(
        interactions(EVENTS), items=items, validation_fraction=0.2, test_fraction=0.2
    )
    assert split.known_items == ["a", "b", "launched"]


def test_a_cut_never_parts_events_of_the_same_second():
    # The quantile falls among events that cleaning spread by a microsecond.
    table = interactions({"ann": [("a", 0), ("b", 1), ("c", 5)], "ben": [("a", 0), ("b", 1)]})
    spread = [{**row, "timestamp": row["timestamp"] + timedelta(microseconds=row["sequence"])}
              for row in table.to_pylist()]  # fmt: skip
    split = global_time(
        pa.Table.from_pylist(spread, INTERACTIONS), validation_fraction=0.4, test_fraction=0.2
    )
    assert split.t1 == at(1)
    assert [user for user, *_ in rows(split.targets, "validation")] == ["ann", "ben"]


def test_leave_one_out_folds():
    split = leave_one_out(interactions(EVENTS))
    just_after = timedelta(microseconds=1)
    assert rows(split.cutoffs, "train") == [
        ("ann", at(6)),
        ("ben", at(2)),
        ("cat", at(4) + just_after),
        ("new", at(9) + just_after),
        ("old", at(5) + just_after),
    ]
    assert rows(split.cutoffs, "validation") == [("ann", at(6)), ("ben", at(2))]
    assert rows(split.targets, "validation") == [("ann", "c", at(6)), ("ben", "b", at(2))]
    assert rows(split.cutoffs, "test") == [("ann", at(8)), ("ben", at(7))]
    assert rows(split.targets, "test") == [("ann", "d", at(8)), ("ben", "a", at(7))]
    assert split.known_items == ["a", "b", "c", "d", "e"]
    assert split.counts["users_too_short_to_evaluate"] == 3


def test_the_hash_is_of_the_content_alone():
    table = interactions(EVENTS)
    split = leave_one_out(table)
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3)])
    assert leave_one_out(chunked).sha256 == split.sha256
    # Pinned: figures published under a hash must stay comparable.
    assert split.sha256 == "169e3c44e5ba902b8f88179045cfe592be43ee338e8f5910403d050cf8706897"
    other = interactions({**EVENTS, "ann": [*EVENTS["ann"][:-1], ("z", 8)]})
    assert leave_one_out(other).sha256 != split.sha256


def test_description_is_json():
    description = leave_one_out(interactions(EVENTS)).describe()
    assert description["kind"] == "leave-one-out"
    assert description["t1"] is None
    assert description["counts"]["test_users"] == 2


def test_what_cannot_be_split():
    with pytest.raises(DataError, match="no interactions"):
        leave_one_out(INTERACTIONS.empty_table())
    with pytest.raises(DataError, match="'validation' has no users"):
        leave_one_out(interactions({"a": [("x", 0), ("y", 1)]}))
    with pytest.raises(DataError, match="must be positive and sum to below 1"):
        global_time(interactions(EVENTS), validation_fraction=0.5, test_fraction=0.5)
    backwards = interactions({"a": [("x", 3), ("y", 1), ("z", 4)]})
    with pytest.raises(DataError, match=r"clean\(\) them first"):
        leave_one_out(backwards)


def test_fractions_can_count_what_is_new_alone():
    table = interactions(EVENTS)
    split = global_time(table, since=at(4), validation_fraction=0.2, test_fraction=0.4)
    # New are the events of minutes 5 to 9: the first two are learned from, then one, then two.
    assert (split.t1, split.t2) == (at(7), at(8))
    assert split.since == at(4)
    assert split.describe()["since"] == at(4).isoformat()
    whole = global_time(table, validation_fraction=0.2, test_fraction=0.2)
    assert "since" not in whole.describe()


def test_the_first_cut_lies_after_what_was_seen_even_within_one_second():
    events = {"ann": [("a", 0), ("b", 3)], "ben": [("a", 1), ("b", 3)], "cat": [("a", 2)]}
    table = interactions(events)
    since = at(3) - timedelta(microseconds=1)
    with pytest.raises(NothingNewer, match=r"too little is newer .* to fill 'validation'"):
        global_time(table, since=since, validation_fraction=0.4, test_fraction=0.4)


def test_nothing_new_is_said_in_one_line():
    with pytest.raises(DataError, match="nothing is newer than 2024-01-01 00:09"):
        global_time(interactions(EVENTS), since=at(9))
