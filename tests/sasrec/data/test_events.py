import pyarrow as pa
import pyarrow.parquet as pq

from sasrec.data.events import events_of


def test_only_the_users_asked_for_are_read(tmp_path):
    events = pa.table(
        {
            "user_id": ["a", "a", "b", "c"],
            "item_id": ["x", "y", "x", "z"],
            "timestamp": [1, 2, 3, 4],
            "event_type": ["view"] * 4,
        }
    )
    pq.write_table(events, tmp_path / "interactions")
    found = events_of(tmp_path / "interactions", pa.chunked_array([["c", "a", "c", "nobody"]]))
    assert found.to_pylist() == events.take([0, 1, 3]).drop_columns("event_type").to_pylist()
