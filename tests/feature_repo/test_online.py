"""A read is Feast's snapshot and what happened since, each event once."""

import asyncio
import random
import time

import pytest

from feature_repo.history import StoredEvent, open_history
from feature_repo.mirror import Mirror
from feature_repo.online import OnlineHistory, Unavailable, UserHistory, merge
from feature_repo.publish import publish
from sasrec.errors import DataError
from tests.feature_repo.small_history import END, START

BEGIN = int(START.timestamp() * 1e6)


def test_merging_counts_an_event_in_both_once_and_puts_a_late_one_in_its_place():
    snapshot = UserHistory(["a", "b", "d"], ["view"] * 3, [10, 20, 21])
    tail = [
        StoredEvent("e1", "b", "view", 20),
        StoredEvent("e2", "d", "view", 20),  # a tie: the snapshot has it 1 us later
        StoredEvent("e3", "late", "view", 15),
        StoredEvent("e5", "late", "view", 15),  # sent twice under two ids
        StoredEvent("e4", "new", "view", 30),
    ]
    tail.sort(key=lambda event: (event.timestamp, event.event_id))
    merged = merge(snapshot, tail, 10)
    assert merged.item_ids == ["a", "late", "b", "d", "new"]
    assert merged.timestamps == [10, 15, 20, 21, 30]
    assert merge(snapshot, tail, 2).item_ids == ["d", "new"]


@pytest.mark.parametrize("seed", range(20))
def test_merging_a_long_snapshot_is_merging_all_of_it(seed):
    rng = random.Random(seed)
    times = sorted(rng.sample(range(100), 60))
    known = [(time, rng.choice("vd"), rng.choice("abc")) for time in times]
    snapshot = UserHistory(*([event[i] for event in known] for i in (2, 1, 0)))
    again = rng.sample(known, 5)
    fresh = [(time, "v", "n") for time in rng.sample(range(40, 140), 10)]
    tail = [StoredEvent(f"e{n}", i, k, t) for n, (t, k, i) in enumerate(sorted(again + fresh))]
    tail = tail[-rng.randrange(1, len(tail)) :]
    cleaned, previous = set(known), -1
    for event in tail:
        previous = max(event.timestamp, previous + 1)
        cleaned.add((previous, event.event_type, event.item_id))
    for n in (1, 10, 50, 1000):
        merged = merge(snapshot, tail, n)
        got = zip(merged.timestamps, merged.event_types, merged.item_ids, strict=True)
        assert list(got) == sorted(cleaned)[-n:]
    assert merge(snapshot, [], 7).timestamps == times[-7:]


@pytest.fixture
def site(tmp_path, interactions):
    publish(
        tmp_path,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=END,
    )
    return tmp_path


def test_the_next_read_sees_an_append(site, interactions):
    history = open_history(site / "history.db")
    online = OnlineHistory(site, history)
    before = online.read("u3", 1000)
    assert len(before.item_ids) == interactions["user_id"].to_pylist().count("u3")
    now = int(END.timestamp() * 1e6)
    history.append("u3", StoredEvent("e1", "fresh", "view", now))
    history.append("u3", StoredEvent("e0", "first", "view", BEGIN - 1))
    after = asyncio.run(online.latest("u3", 1000))
    assert after.item_ids == ["first", *before.item_ids, "fresh"]
    assert online.read("new user", 10) == UserHistory([], [], [])


def test_before_the_first_publish_only_the_tail_is_read(tmp_path):
    history = open_history(tmp_path / "history.db")
    history.append("u", StoredEvent("e1", "a", "view", 1))
    assert OnlineHistory(tmp_path, history).read("u", 5) == UserHistory(["a"], ["view"], [1])


def test_a_new_publish_is_noticed(site, interactions):
    online = OnlineHistory(site, open_history(site / "history.db"))
    full = online.read("u3", 1000)
    as_of = END - (END - START) / 4
    publish(
        site, interactions=interactions, items=None, impressions=None, cutoffs=None, as_of=as_of
    )
    deadline = time.monotonic() + 30
    while (found := online.read("u3", 1000)) == full and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 0 < len(found.item_ids) < len(full.item_ids)


def test_a_hanging_store_costs_a_few_timeouts_and_then_nothing(tmp_path):
    class Hanging:
        def latest(self, user_id, n):
            time.sleep(0.3)
            return []

    online = OnlineHistory(tmp_path, Hanging(), timeout=0.02, failures=2, pause=0.1)

    async def ask() -> float:
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await online.latest("u", 10)
        return time.monotonic() - started

    async def scenario():
        assert 0.02 <= await ask() < 0.2
        await ask()
        for _ in range(50):  # also while it is looked at again
            assert await ask() < 0.015, "the breaker is open"
            await asyncio.sleep(0.01)
        online._history.latest = lambda user_id, n: []
        await asyncio.sleep(0.6)  # no request is needed for the return to be seen
        assert await online.latest("u", 10) == UserHistory([], [], [])

    asyncio.run(scenario())


def test_files_are_read_in_place(site, interactions):
    online = OnlineHistory(site, open_history(site / "history.db"))
    online._readers.shutdown()  # no thread is left to read in
    found = asyncio.run(online.latest("u3", 1000))
    assert len(found.item_ids) == interactions["user_id"].to_pylist().count("u3")


def feast_alone(site, user):
    return OnlineHistory(site, open_history(site / "empty.db")).read(user, 1000)


def test_the_mirror_brings_feast_up_to_date_again_and_again(site):
    history = open_history(site / "history.db")
    mirror = Mirror(site, history)
    now = int(END.timestamp() * 1e6)
    for number in range(3):
        history.append("u3", StoredEvent(f"e{number}", f"new{number}", "view", now + number))
        assert mirror.run_once() == 1
        assert feast_alone(site, "u3").item_ids[-1] == f"new{number}"
    history.append("u3", StoredEvent("late", "late", "view", BEGIN - 1))
    mirror.run_once()
    expected = OnlineHistory(site, history).read("u3", 1000)
    assert expected.item_ids[0] == "late"
    assert feast_alone(site, "u3") == expected
    assert mirror.run_once() == 0
    with pytest.raises(DataError, match="another mirror"):
        Mirror(site, history)


def test_the_mirror_starts_over_after_a_publish(site, interactions):
    history = open_history(site / "history.db")
    mirror = Mirror(site, history)
    history.append("u3", StoredEvent("e", "new", "view", int(END.timestamp() * 1e6)))
    mirror.run_once()
    publish(site, interactions=interactions, items=None, impressions=None, cutoffs=None, as_of=END)
    assert feast_alone(site, "u3").item_ids[-1] != "new"
    mirror.run_once()
    assert feast_alone(site, "u3").item_ids[-1] == "new"
