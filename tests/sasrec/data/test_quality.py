from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sasrec.data.cleaning import clean, separate_ties
from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS
from sasrec.data.source import Source
from sasrec.errors import DataError

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def source(events: list[tuple[str | None, str | None, datetime]]) -> Source:
    rows = [
        {"user_id": u, "item_id": i, "timestamp": t, "event_type": "click", "sequence": n}
        for n, (u, i, t) in enumerate(events)
    ]
    nullable = pa.schema([field.with_nullable(True) for field in INTERACTIONS])
    item_ids = sorted({i for _, i, _ in events if i})
    items = pa.table(
        [item_ids, *(pa.nulls(len(item_ids), f.type) for f in list(ITEMS)[1:])], ITEMS.names
    )
    return Source("shop", pa.Table.from_pylist(rows, nullable), items, IMPRESSIONS.empty_table())


def with_impressions(**column) -> Source:
    row = {
        "request_id": "r1", "user_id": "u", "item_id": "a", "position": 0, "timestamp": NOON,
        "policy": "greedy", "model_version": "v", "score": 0.5, "propensity": 0.5,
        "candidates": 2, "reward": 0.0,
    }  # fmt: skip
    good = {**row, "request_id": "r0"}
    table = pa.Table.from_pylist([good, {**row, **column}], IMPRESSIONS)
    return replace(source([("u", "a", NOON), ("u", "b", NOON)]), impressions=table)


def test_sorted_by_user_then_time_with_ties_spread_in_source_order():
    events = [("b", "x", NOON), ("a", "late", NOON), ("b", "y", NOON), ("b", "z", NOON)]
    events.append(("a", "early", NOON - timedelta(hours=1)))
    cleaned, report = clean(source(events))
    rows = cleaned.interactions.to_pylist()
    assert [(r["user_id"], r["item_id"]) for r in rows] == [
        ("a", "early"), ("a", "late"), ("b", "x"), ("b", "y"), ("b", "z"),
    ]  # fmt: skip
    assert [r["timestamp"] - NOON for r in rows[2:]] == [
        timedelta(microseconds=n) for n in range(3)
    ]
    assert report.ties_separated == 2


def test_duplicates_go_and_one_event_users_stay_and_both_are_counted():
    minute = timedelta(minutes=1)
    events = [("a", "x", NOON), ("b", "x", NOON), ("a", "x", NOON), ("a", "x", NOON + minute)]
    cleaned, report = clean(source(events))
    assert cleaned.interactions["sequence"].to_pylist() == [0, 3, 1]
    assert (report.rows_read, report.duplicates_dropped, report.events) == (4, 1, 3)
    assert (report.users, report.one_event_users, report.items) == (2, 1, 1)
    assert report.density == 1.0
    assert report.to_dict()["events_per_user"]["max"] == 2
    assert "| duplicates dropped | 1 |" in report.to_markdown()


def test_cleaning_twice_changes_nothing():
    events = [("a", f"i{n % 3}", NOON + timedelta(microseconds=n // 4)) for n in range(20)]
    once, _ = clean(source(events))
    twice, report = clean(once)
    assert twice.interactions.equals(once.interactions)
    assert report.ties_separated == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40))
def test_separated_times_follow_the_recurrence(pairs):
    user, time = np.array(sorted(pairs)).T
    expected = []
    for n, (u, t) in enumerate(zip(user, time, strict=True)):
        same = n and user[n - 1] == u
        expected.append(max(t, expected[-1] + 1) if same else t)
    assert separate_ties(user, time).tolist() == expected


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([], "shop interactions: there are no rows"),
        ([("a", "x", NOON), (None, "x", NOON)], "'user_id' is null at row 1"),
        ([("a", "x", NOON), ("a", "", NOON)], "'item_id' is empty at row 1"),
        ([("a", "x", NOON), ("b", "x", NOON)], "shop: no user has two events"),
        ([("a", "x", NOON), ("a", "y", NOON + timedelta(days=3))], "future.*at row 1"),
    ],
)
def test_faults_in_interactions(events, message):
    with pytest.raises(DataError, match=message) as error:
        clean(source(events), now=NOON)
    assert "\n" not in str(error.value)


def test_a_wrong_type_names_the_column():
    bad = source([("a", "x", NOON), ("a", "y", NOON)])
    position = INTERACTIONS.get_field_index("timestamp")
    table = bad.interactions.set_column(position, "timestamp", pa.array(["soon", "later"]))
    with pytest.raises(DataError, match="column 'timestamp' is string"):
        clean(replace(bad, interactions=table))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"propensity": 0.0}, r"'propensity' is outside \(0, 1\] at row 1"),
        ({"propensity": float("nan")}, r"'propensity' is outside \(0, 1\] at row 1"),
        ({"reward": 1.5}, r"'reward' is outside \[0, 1\] at row 1"),
        ({"request_id": "r0"}, "hold a slot for the second time at row 1"),
    ],
)
def test_faults_in_impressions(column, message):
    with pytest.raises(DataError, match=message):
        clean(with_impressions(**column))


def test_an_unknown_reward_is_fine():
    cleaned, report = clean(with_impressions(reward=None))
    assert report.impressions == len(cleaned.impressions) == 2
    assert report.click_through == 0.0


def test_an_item_described_twice():
    twice = source([("a", "x", NOON), ("a", "y", NOON)])
    items = pa.concat_tables([twice.items, twice.items.slice(0, 1)])
    with pytest.raises(DataError, match="describes an item for the second time at row 2"):
        clean(replace(twice, items=items))
