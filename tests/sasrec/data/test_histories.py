from datetime import UTC, datetime, timedelta

import pyarrow as pa

from sasrec.data.frame_histories import histories_before

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(*seconds):
    return pa.array([START + timedelta(seconds=s) for s in seconds], pa.timestamp("us", tz="UTC"))


INTERACTIONS = pa.table(
    {
        "user_id": ["a", "a", "a", "b", "b"],
        "item_id": ["x", "y", "z", "x", "w"],
        "timestamp": at(1, 2, 3, 1, 5),
    }
)


def test_histories_end_strictly_before_their_cutoff_and_keep_the_order_asked():
    cutoffs = pa.table({"user_id": ["b", "a", "a", "a"], "cutoff": at(5, 3, 1, 9)})
    found = histories_before(INTERACTIONS, cutoffs)
    assert found["item_ids"].to_pylist() == [["x"], ["x", "y"], [], ["x", "y", "z"]]
    assert found["timestamps"].to_pylist()[1] == at(1, 2).to_pylist()
