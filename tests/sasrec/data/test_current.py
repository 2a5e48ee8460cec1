"""What is known now."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from sasrec.data.current import CurrentHistories

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def now():
    table = pa.table(
        {
            "user_id": ["ann", "ben", "cat"],
            "item_ids": [["b", "a"], [], ["c"]],
            "timestamps": pa.array([[1, 5], [], [9]], pa.list_(pa.int64())),
        }
    )
    return CurrentHistories.from_histories(AS_OF, table, launched=["new", "a"])


def test_every_item_is_known_and_users_without_events_are_left_out(now):
    assert now.vocabulary.item_ids == ["a", "b", "c", "new"]
    assert now.user_ids == ["ann", "cat"]
    assert [items.tolist() for items in now.histories] == [[2, 1], [3]]


def test_the_newest_are_those_whose_last_event_is(now):
    assert now.newest_users(1).tolist() == [1]
    assert now.examples(2) == ([["c"], ["b", "a"]], [[9], [1, 5]])
    assert now.newest_event == datetime(1970, 1, 1, 0, 0, 0, 9, tzinfo=UTC)


def test_it_survives_the_disk(now, tmp_path):
    now.save(tmp_path)
    again = CurrentHistories.load(tmp_path)
    assert again.digest == now.digest
    assert (again.as_of, again.user_ids) == (AS_OF, now.user_ids)
    assert np.array_equal(again.histories.timestamps, now.histories.timestamps)
