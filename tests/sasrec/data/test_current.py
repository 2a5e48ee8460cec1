"""What is known now."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data.current import CurrentHistories, items_known

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def now(tmp_path):
    table = pa.table(
        {
            "user_id": ["ann", "ben", "cat"],
            "item_ids": [["b", "a"], [], ["c"]],
            "timestamps": pa.array([[1, 5], [], [9]], pa.list_(pa.int64())),
        }
    )
    folder = tmp_path / "current"
    pieces = [table.slice(0, 1), table.slice(1)]
    CurrentHistories.write(folder, AS_OF, ["new", "a", "b", "c"], pieces)
    return CurrentHistories.load(folder)


def test_every_item_is_known_and_users_without_events_are_left_out(now):
    assert now.vocabulary.item_ids == ["a", "b", "c", "new"]
    assert list(now.user_ids) == ["ann", "cat"]
    assert [items.tolist() for items in now.histories] == [[2, 1], [3]]


def test_the_newest_are_those_whose_last_event_is(now):
    assert now.newest_users(1).tolist() == [1]
    assert now.examples(2) == ([["c"], ["b", "a"]], [[9], [1, 5]])
    assert now.newest_event == datetime(1970, 1, 1, 0, 0, 0, 9, tzinfo=UTC)


def test_it_survives_the_disk(now, tmp_path):
    now.save(tmp_path / "again")
    again = CurrentHistories.load(tmp_path / "again")
    assert again.digest == now.digest
    assert (again.as_of, list(again.user_ids)) == (AS_OF, list(now.user_ids))
    assert np.array_equal(again.histories.timestamps, now.histories.timestamps)


def test_items_are_known_once_met_or_launched(tmp_path):
    pq.write_table(pa.table({"item_id": ["b", "a", "b"]}), tmp_path / "interactions.parquet")
    created = pa.array([None, AS_OF - timedelta(days=1), AS_OF], pa.timestamp("us", "UTC"))
    items = pa.table({"item_id": ["a", "launched", "later"], "created_at": created})
    pq.write_table(items, tmp_path / "items.parquet")
    known = items_known(AS_OF, tmp_path / "interactions.parquet", tmp_path / "items.parquet")
    assert known == {"a", "b", "launched"}
