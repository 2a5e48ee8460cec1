"""Which slot an event came from, and its propensity beside the event in packed histories."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sasrec.data.propensities import logged_propensities, of_histories
from sasrec.data.schema import IMPRESSIONS, TIMESTAMP
from sasrec.errors import DataError
from tests.sasrec.small_sequences import packed

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(hours=24)


def at(hours):
    return START + timedelta(hours=hours)


def interactions(rows, with_requests=True):
    """Rows of user, item, hours after the start, request."""
    users, items, hours, requests = zip(*rows, strict=True)
    columns = {
        "user_id": list(users),
        "item_id": list(items),
        "timestamp": pa.array([at(h) for h in hours], TIMESTAMP),
    }
    if with_requests:
        columns["request_id"] = pa.array(requests, pa.string())
    return pa.table(columns)


def impressions(rows):
    """Rows of request, user, item, hours after the start, propensity, reward."""
    return pa.Table.from_pylist(
        [
            {
                "request_id": request,
                "user_id": user,
                "item_id": item,
                "position": position,
                "timestamp": at(hours),
                "policy": "test",
                "model_version": "v",
                "score": None,
                "propensity": propensity,
                "candidates": 10,
                "reward": reward,
            }
            for position, (request, user, item, hours, propensity, reward) in enumerate(rows)
        ],
        schema=IMPRESSIONS,
    )


def test_a_request_names_the_slot_whatever_the_time():
    events = interactions([("u", "a", 90, "r1"), ("u", "b", 91, "r1"), ("u", "a", 92, "r9")])
    slots = impressions([("r1", "u", "a", 0, 0.25, None), ("r1", "someone else", "b", 0, 0.5, 1)])
    found = logged_propensities(events, slots, within=DAY)
    np.testing.assert_array_equal(found, np.float32([0.25, np.nan, np.nan]))


def test_without_a_request_the_newest_rewarded_slot_within_the_window_counts():
    events = interactions(
        [("u", "a", 10, None), ("u", "a", 40, None), ("u", "b", 10, None), ("v", "a", 10, None)],
        with_requests=False,
    )
    slots = impressions(
        [
            ("r1", "u", "a", 1, 0.1, 1.0),
            ("r2", "u", "a", 9, 0.2, 1.0),
            ("r3", "u", "a", 9.5, 0.3, 0.0),
            ("r4", "u", "a", 11, 0.4, 1.0),
            ("r5", "u", "b", 9, 0.5, None),
        ]
    )
    found = logged_propensities(events, slots, within=DAY)
    np.testing.assert_array_equal(found, np.float32([0.2, np.nan, 0.5, np.nan]))


def test_values_follow_the_events_into_packed_histories():
    events = interactions(
        [("u", "a", 1, None), ("u", "b", 2, None), ("v", "a", 1, None), ("w", "c", 3, None)]
    )
    times = events["timestamp"].cast(pa.int64()).to_numpy()
    histories = packed([[9, 9], [7], []], times[[0, 1, 3]])
    values = np.array([10, 20, 30, 40])
    assert of_histories(values, events, ["u", "w", "x"], histories).tolist() == [10, 20, 40]
    with pytest.raises(DataError, match="hold events that the interactions do not"):
        of_histories(values, events, ["v", "w", "x"], histories)


def test_an_event_of_a_slot_that_a_rule_has_placed_counts_as_one_of_none():
    events = interactions([("u", "a", 2, "r1"), ("u", "b", 2, "r1"), ("u", "a", 12, None)])
    rows = [("r1", "u", "a", 1, 1.0, None), ("r1", "u", "b", 1, 0.5, None)]
    slots = impressions([*rows, ("r0", "u", "a", 0, 0.1, 1)])
    place, field = slots.schema.get_field_index("policy"), slots.schema.field("policy")
    slots = slots.set_column(place, field, pa.array(["rule:pin", "test", "test"]))
    found = logged_propensities(events, slots, within=DAY)
    np.testing.assert_array_equal(found, np.float32([np.nan, 0.5, np.nan]))
