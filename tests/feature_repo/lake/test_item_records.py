"""What the shop said of its items while the service ran, as the next run finds it."""

from contextlib import suppress
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sasrec.data.schema import ITEMS
from serving.events.writer import EventLog
from tests.feature_repo.lake.kills import Killed, kill_at
from tests.feature_repo.lake.site import NOW, SPLIT, LakeSite, at, item
from tests.feature_repo.lake.test_intake import CROWD

CUT = SPLIT | {"kind": "leave-one-out"}


@pytest.fixture
def site(tmp_path):
    return LakeSite(tmp_path)


@pytest.fixture
def log(site):
    log = EventLog(site.log)
    log.append(CROWD).result()
    yield log
    log.close()


def described(site):
    rows = site.read(cut=CUT).items.to_pylist()
    return {row["item_id"]: row for row in rows if row["title"]}


def test_the_newest_record_counts_whatever_its_place_and_attributes_are_columns(site, log):
    log.append([item(update_id="2", title="Newer", attributes={"price": 3, "sale": True})]).result()
    log.append([item(title="Older"), item(item_id="b", created_at=at(99))]).result()
    assert site.take_in().added == {"logged": len(CROWD), "items": 3}
    a, b = described(site)["a"], described(site)["b"]
    assert (a["title"], a["price"], a["sale"], a["available"]) == ("Newer", 3.0, True, True)
    assert a["created_at"] == NOW - timedelta(hours=48)
    assert (b["created_at"], b["price"]) == (NOW - timedelta(hours=99), None)
    log.append([item(timestamp=at(2), attributes={"Price": 2.5})]).result()
    site.take_in()
    a = described(site)["a"]
    assert (a["price"], a["sale"], a["created_at"]) == (2.5, None, NOW - timedelta(hours=48))


def test_a_deleted_item_keeps_what_was_known_and_is_not_available(site, log):
    log.append([item(attributes={"brand": "x"})]).result()
    site.take_in()
    gone = {"title": None, "category": None, "available": False, "deleted": True}
    log.append([item(timestamp=at(1), **gone), item(item_id="b", **gone)]).result()
    site.take_in()
    a = described(site)["a"]
    assert (a["title"], a["brand"], a["available"]) == ("A", "x", False)


def test_values_that_do_not_fit_an_imported_column_are_null_and_counted(site, log, tmp_path):
    shop = tmp_path / "shop"
    shop.mkdir()
    rows = [{"user_id": "u", "item_id": "a", "timestamp": NOW - timedelta(hours=h)} for h in (9, 8)]
    pq.write_table(pa.Table.from_pylist(rows), shop / "interactions.parquet")
    table = pa.table({"item_id": ["a"], "title": ["A"], "category": ["c"], "created_at": [None]})
    table = table.cast(ITEMS).append_column("stock", pa.array([5], pa.int32()))
    pq.write_table(table.append_column("Brand", pa.array(["x"])), shop / "items.parquet")
    log.append([item(attributes={"stock": 3.5, "brand": 7})]).result()
    log.append([item(item_id="b", attributes={"stock": 4})]).result()
    left_out = site.take_in(shop).left_out
    assert left_out == {"item: 'stock' is no int32, as in the lake; set to null": 1}
    found = described(site)
    assert (found["a"]["stock"], found["a"]["Brand"], found["b"]["stock"]) == (None, "7", 4)


@pytest.mark.parametrize("instant", range(8))
def test_killed_at_any_instant_no_item_is_lost(site, log, monkeypatch, instant):
    site.take_in()
    log.append([item(), item(item_id="b", attributes={"price": 1})]).result()
    with monkeypatch.context() as patch:
        kill_at(patch, instant)
        with suppress(Killed):
            site.take_in()
    site.take_in()
    assert set(described(site)) == {"a", "b"}
    assert described(site)["b"]["price"] == 1
    assert site.lake.state.complete
