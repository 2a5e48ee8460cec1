import threading
import time

import pytest

from feature_repo.history import open_history
from serving.events.history_writer import HistoryWriter, catch_up
from serving.events.writer import EventLog, unapplied


def event(number, user="u"):
    return {
        "type": "event",
        "event_id": f"e{number}",
        "user_id": user,
        "item_id": f"i{number}",
        "event_type": "click",
        "timestamp": number,
    }


class Store:
    """A history store that can be taken away."""

    def __init__(self, store):
        self.store = store
        self.away = False

    def append_many(self, events):
        if self.away:
            raise ConnectionError("away")
        return self.store.append_many(events)

    def items(self, user="u"):
        return [event.item_id for event in self.store.latest(user, 100)]


@pytest.fixture
def store(tmp_path):
    history = open_history(tmp_path / "history.db")
    yield Store(history)
    history.close()


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch):
    monkeypatch.setattr("serving.events.history_writer.RETRY_SECONDS", 0.01)


def test_events_are_visible_once_the_future_says_so(store, tmp_path):
    writer = HistoryWriter(store)
    assert writer.append([event(1), event(2)], tmp_path / "a.log").result(5)
    assert store.items() == ["i1", "i2"]
    writer.close()


def test_events_wait_in_order_while_the_store_is_away(store, tmp_path):
    writer = HistoryWriter(store)
    store.away = True
    for number in (1, 2, 3):  # nobody waits for a store that is away
        assert not writer.append([event(number)], tmp_path / "a.log").result(5)
    store.away = False
    visible(writer, tmp_path, 4)
    assert store.items() == ["i1", "i2", "i3", "i4"]
    writer.close()


def visible(writer, folder, number):
    """Append until it is visible at once; what came before is then visible too."""
    deadline = time.monotonic() + 5
    while not writer.append([event(number)], folder / "a.log").result(5):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_callers_that_wait_when_the_store_goes_away_are_told(store, tmp_path):
    """The first attempt may hang for as long as the store's timeout; others queue up behind it."""
    hang, entered = threading.Event(), threading.Event()

    def append_many(_):
        entered.set()
        hang.wait(5)
        raise ConnectionError("away")

    store.append_many = append_many
    writer = HistoryWriter(store)
    waiting = [writer.append([event(1)], tmp_path / "a.log")]
    entered.wait(5)
    waiting += [writer.append([event(number)], tmp_path / "a.log") for number in (2, 3)]
    hang.set()
    assert [future.result(5) for future in waiting] == [False] * 3
    writer.close()


def test_more_than_memory_should_hold_is_read_from_the_log_again(store, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.events.history_writer.WAITING_EVENTS", 10)
    log = EventLog(tmp_path / "log")
    writer = HistoryWriter(store)
    store.away = True
    for number in range(50):
        segment = log.append([event(number)]).result(5)
        assert not writer.append([event(number)], segment).result(5)
    store.away = False
    segment = log.append([event(50)]).result(5)
    while not writer.append([event(50)], segment).result(5):
        time.sleep(0.01)
    assert store.items() == [f"i{number}" for number in range(51)]
    writer.close()
    log.close()


def test_what_was_logged_and_not_applied_is_applied_by_the_next_worker(store, tmp_path):
    log = EventLog(tmp_path / "log")
    segment = log.append([event(1), event(2)]).result(5)
    writer = HistoryWriter(store)
    store.away = True
    writer.append([event(1), event(2)], segment).result(5)
    writer.close()
    log.close()
    store.away = False

    for missing in (2, 0):
        log = EventLog(tmp_path / "log")
        assert catch_up(store, unapplied(log.finished)) == missing
        log.close()
    assert store.items() == ["i1", "i2"]


def test_applied_segments_are_not_read_again(store, tmp_path):
    log = EventLog(tmp_path / "log")
    segment = log.append([event(1)]).result(5)
    writer = HistoryWriter(store)
    writer.append([event(1)], segment).result(5)
    writer.close()
    log.close()
    log = EventLog(tmp_path / "log")
    assert segment in log.finished
    assert unapplied(log.finished) == []
    log.close()


def test_segments_are_marked_two_behind(store, tmp_path):
    writer = HistoryWriter(store)
    paths = [tmp_path / f"{number}.log" for number in range(4)]
    for number, path in enumerate(paths):
        writer.append([event(number)], path).result(5)
    assert unapplied(paths[:1]) == []
    assert unapplied(paths[2:]) == paths[2:]
    writer.close()
    assert unapplied(paths) == []
