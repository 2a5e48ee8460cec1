"""One contract, two stores: exactly once, in time order, bounded, from many processes."""

import multiprocessing
import random
import time

import pytest

from feature_repo.history import RedisHistory, SQLiteHistory, StoredEvent
from feature_repo.history.feed import BEGINNING, FedEvent

LIMIT = 50


@pytest.fixture(params=["sqlite", "redis"])
def location(request, tmp_path):
    if request.param == "redis":
        return request.getfixturevalue("redis_url")
    return tmp_path / "history.db"


def open_history_at(location, limit=LIMIT):
    if isinstance(location, str):
        return RedisHistory(location, limit=limit)
    return SQLiteHistory(location, limit=limit)


@pytest.fixture
def store(location):
    store = open_history_at(location)
    store.clear()
    yield store
    store.close()


def event(number: int, timestamp: int | None = None) -> StoredEvent:
    return StoredEvent(
        f"e{number:06}", f"i{number % 7}", "view", number if timestamp is None else timestamp
    )


def test_an_unknown_user_has_no_history(store):
    assert store.latest("nobody", 10) == []


def test_a_duplicate_is_ignored_even_with_another_timestamp(store):
    assert store.append("u", event(1))
    assert not store.append("u", event(1))
    assert not store.append("u", event(1, timestamp=99))
    assert store.latest("u", 10) == [event(1)]


def test_the_same_event_id_of_another_user_is_another_event(store):
    assert store.append("u", event(1))
    assert store.append("v", event(1))


def test_a_late_event_is_inserted_in_place(store):
    for number in (1, 5, 3):
        store.append("u", event(number))
    assert store.latest("u", 10) == [event(1), event(3), event(5)]
    assert store.latest("u", 2) == [event(3), event(5)]


def test_microseconds_of_this_century_are_kept(store):
    late = event(1, timestamp=4_102_444_799_999_999)
    store.append("u", late)
    store.append("u", event(2, timestamp=late.timestamp - 1))
    assert store.latest("u", 2) == [event(2, late.timestamp - 1), late]


def test_a_history_is_bounded_to_its_newest_events(store):
    for number in range(LIMIT + 20):
        store.append("u", event(number))
    assert store.latest("u", 1000) == [event(n) for n in range(20, LIMIT + 20)]
    assert not store.append("u", event(3)), "older than all of a full history"
    assert len(store.latest("u", 1000)) == LIMIT


def test_order_and_repetition_of_arrival_do_not_change_the_state(store):
    events = [("u", event(n, timestamp=n // 3)) for n in range(2 * LIMIT)]
    store.append_many(events)
    expected = store.latest("u", 1000)
    for seed in range(3):
        store.clear()
        shuffled = events * 2
        random.Random(seed).shuffle(shuffled)
        store.append_many(shuffled)
        assert store.latest("u", 1000) == expected


def test_forgotten_users_leave_nothing(store):
    store.append("u", event(1))
    store.append("v", event(2))
    assert store.forget("u") == 1
    assert store.latest("u", 10) == []
    assert [user for user, _ in store.changed(10)] == ["v"]


def test_a_user_stays_changed_until_the_latest_revision_is_settled(store):
    store.append("u", event(1))
    [(user, revision)] = store.changed(10)
    store.append("u", event(2))
    store.settle(user, revision)
    [(user, revision)] = store.changed(10)
    store.settle(user, revision)
    assert store.changed(10) == []


def _write(location, writer: int, events: list[StoredEvent], acknowledged) -> None:
    store = open_history_at(location, limit=10_000)
    for item in events:
        store.append("u", item)
        acknowledged[writer] += 1


def test_four_writers_with_kills_lose_nothing_and_repeat_nothing(location):
    """Each writer is killed twice at a random moment, then starts over from its first event."""
    open_history_at(location).clear()
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    batches = []
    for writer in range(4):
        numbers = list(range(writer, 1000, 4))
        rng.shuffle(numbers)
        batches.append([event(n) for n in numbers])
    acknowledged = context.RawArray("i", 4)  # a lock would stay with a killed process
    for attempt in range(3):
        writers = [
            context.Process(target=_write, args=(location, w, batch, acknowledged))
            for w, batch in enumerate(batches)
        ]
        for process in writers:
            process.start()
        if attempt < 2:
            _wait_for(acknowledged, sum(acknowledged) + 60)
            for process in writers:
                process.kill()
        for process in writers:
            process.join(200)
    assert all(process.exitcode == 0 for process in writers)
    assert sum(acknowledged) > 1000, "the killed writers had begun"
    assert open_history_at(location, limit=10_000).latest("u", 10_000) == [
        event(n) for n in range(1000)
    ]


def _wait_for(acknowledged, count: int) -> None:
    deadline = time.monotonic() + 100
    while sum(acknowledged) < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def fed(number: int) -> FedEvent:
    return FedEvent(f"i{number % 7}", "view", number)


def follow(store, after=BEGINNING, limit=64 * 3):
    """All of the feed after a position, read in parts."""
    events, more = [], True
    while more:
        part = store.feed(after, limit)
        events += part.events
        more, after = part.more, part.position
    return events, after


def test_the_feed_tells_once_what_was_appended_and_not_by_whom(store):
    assert store.feed(BEGINNING, 10).events == []
    for number in range(30):
        store.append(f"u{number % 3}", event(number))
        store.append(f"u{number % 3}", event(number))  # sent again
    events, position = follow(store)
    assert sorted(events) == sorted(fed(number) for number in range(30))
    assert "u1" not in str(events)
    store.append("u", event(31))
    events, end = follow(store, position)
    assert events == [fed(31)]
    assert follow(store, end) == ([], end)


def test_what_a_full_history_does_not_take_is_not_in_the_feed(store):
    for number in range(LIMIT + 20):
        store.append("u", event(number))
    store.append("u", event(3))
    assert len(follow(store)[0]) == LIMIT + 20


def test_a_feed_is_bounded(location):
    store = (RedisHistory if isinstance(location, str) else SQLiteHistory)(location, feed_limit=500)
    store.clear()
    store.append_many((f"u{number % 500}", event(number)) for number in range(12_000))
    # Redis trims whole nodes of about a hundred entries in each of its shards.
    most = 64 * 120 if isinstance(location, str) else 500 + 1000
    assert 500 <= len(follow(store)[0]) <= most
    store.close()


def test_an_emptied_store_begins_another_generation(store):
    store.append("u", event(1))
    before = store.feed(BEGINNING, 10)
    assert store.feed(before.position, 10).generation == before.generation
    store.clear()
    store.append("u", event(1))
    after = store.feed(BEGINNING, 10)
    assert after.generation != before.generation
    assert after.events == [fed(1)]
