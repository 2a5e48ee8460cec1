"""One contract, two stores: the newest record of each item, and how often it was shown."""

import itertools

import pytest

from feature_repo.catalogue import open_catalogue
from feature_repo.catalogue.apply import apply_records
from feature_repo.history import open_history
from tests.feature_repo.lake.site import event, item


@pytest.fixture(params=["sqlite", "redis"])
def location(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return tmp_path / "history.db"


@pytest.fixture
def store(location):
    if isinstance(location, str):
        import redis

        client = redis.Redis.from_url(location)
        client.delete(*client.keys("{catalogue}*"), "none")
    store = open_catalogue(location)
    yield store
    store.close()


RECORDS = [
    item(title="first", timestamp=1),
    item(title="tie", timestamp=2, update_id="a"),
    item(title="newest", timestamp=2, update_id="b"),
    item(item_id="b", timestamp=10**15),
    item(item_id="b", timestamp=10**16, deleted=True, available=False),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::17])
def test_in_whatever_order_they_come_the_newest_record_of_each_item_counts(store, order):
    for number in order:
        store.apply([RECORDS[number]])
    assert store.apply(RECORDS) == 0
    found = {record["item_id"]: record for record in store.since(0).items}
    assert found == {"a": RECORDS[2], "b": RECORDS[4]}


def test_a_look_gives_what_changed_since_the_last_one(store, location):
    other = open_catalogue(location)  # another process
    store.apply([RECORDS[0], RECORDS[3]])
    seen = other.since(0)
    assert {record["item_id"] for record in seen.items} == {"a", "b"}
    assert other.since(seen.sequence) == (seen.sequence, [], {})
    store.apply([RECORDS[2]])
    store.count_impressions({"a": 2, "b": 1})
    other.count_impressions({"a": 3})
    changes = other.since(seen.sequence)
    assert [record["title"] for record in changes.items] == ["newest"]
    assert changes.impressions == {"a": 5, "b": 1}
    assert store.since(10**9).impressions == {"a": 5, "b": 1}, "the store was emptied meanwhile"
    other.close()


def test_the_log_s_events_and_items_go_where_they_belong(store, tmp_path):
    history = open_history(tmp_path / "events.db")
    records = [event(), item(), event(event_id="e2", item_id="b")]
    assert apply_records(history, store, iter(records)) == 3
    assert apply_records(history, store, records) == 0
    assert [stored.item_id for stored in history.latest("u", 9)] == ["a", "b"]
    assert [record["item_id"] for record in store.since(0).items] == ["a"]
