from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS
from sasrec.data.source import Source
from sasrec.errors import DataError

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


def shop() -> Source:
    """One event a day; item `b` is created on the second day, `c` has no date."""
    interactions = [
        {
            "user_id": "u",
            "item_id": item_id,
            "timestamp": START + day * DAY,
            "event_type": "click",
            "sequence": day,
        }
        for day, item_id in enumerate(["a", "c", "b"])
    ]
    items = [
        {"item_id": "a", "created_at": START - DAY},
        {"item_id": "b", "created_at": START + 2 * DAY},
        {"item_id": "c", "created_at": None},
    ]
    return Source(
        "shop",
        pa.Table.from_pylist(interactions, INTERACTIONS),
        pa.Table.from_pylist(items, ITEMS),
        IMPRESSIONS.empty_table(),
    )


def test_a_late_reader_sees_what_a_punctual_one_saw():
    late = shop().before(START + 2 * DAY)
    assert late.interactions["item_id"].to_pylist() == ["a", "c"]
    assert late.items["item_id"].to_pylist() == ["a", "c"]
    assert late.interactions.schema == INTERACTIONS
    assert "2026-01-03" in late.notes[-1]


def test_an_event_at_the_moment_itself_is_not_before_it():
    assert shop().before(START + DAY).interactions.num_rows == 1
    assert shop().before(START + DAY + timedelta(microseconds=1)).interactions.num_rows == 2


def test_an_item_of_a_kept_event_is_kept_whatever_its_date():
    source = shop()
    items = source.items.set_column(2, "category", pa.array(["x", "y", "z"]))
    early = replace(source, items=items).before(START + 3 * DAY)
    assert early.items["category"].to_pylist() == ["x", "y", "z"]


def test_a_source_without_time_is_refused():
    with pytest.raises(DataError, match=r"order but no time.*as_of"):
        replace(shop(), clock="row-order").before(START)


def test_a_moment_before_everything_is_refused():
    with pytest.raises(DataError, match="no interactions before"):
        shop().before(START)
