"""Redis killed while events arrive: what was acknowledged is in the log, and applied later."""

import time

import pytest

from feature_repo.event_log import read_log
from feature_repo.history import open_history
from feature_repo.rebuild import rebuild
from serving.events.history_writer import HistoryWriter
from serving.events.writer import EventLog
from tests.feature_repo.redis_server import free_port, running_redis


def event(number: int) -> dict:
    return {
        "type": "event",
        "event_id": f"e{number}",
        "request_id": None,
        "user_id": "u",
        "item_id": f"i{number}",
        "event_type": "view",
        "timestamp": number,
        "received_at": number,
    }


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.events.history_writer.RETRY_SECONDS", 0.02)
    log = EventLog(tmp_path / "log")
    yield tmp_path, free_port(), log
    log.close()


def items(history) -> list[str]:
    return [found.item_id for found in history.latest("u", 100)]


def test_events_acknowledged_while_redis_is_down_are_applied_once_it_is_back(site):
    folder, port, log = site
    history = open_history(f"redis://127.0.0.1:{port}/0")
    writer = HistoryWriter(history)

    def acknowledge(number: int) -> bool:
        """As the service does: durable in the log first; returns whether it is visible, too."""
        record = event(number)
        return writer.append([record], log.append([record]).result(5)).result(5)

    with running_redis(folder, port):
        assert all(acknowledge(number) for number in range(10))
    assert not any(acknowledge(number) for number in range(10, 20))
    with running_redis(folder, port):
        deadline = time.monotonic() + 30
        while len(items(history)) < 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert items(history) == [f"i{number}" for number in range(20)]
        writer.close()
    history.close()


def test_a_worker_that_died_during_the_outage_leaves_it_to_the_log(site):
    folder, port, log = site
    log.append([event(number) for number in range(20)]).result(5)
    with running_redis(folder, port) as url:
        history = open_history(url)
        assert rebuild(history, read_log(folder / "log")) == 20
        assert rebuild(history, read_log(folder / "log")) == 0
        assert items(history) == [f"i{number}" for number in range(20)]
        history.close()
