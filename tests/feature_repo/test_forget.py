"""A forgotten user is in no store, no table and no log that is read again."""

import subprocess
import sys

import pytest

from feature_repo.event_log import read_log
from feature_repo.forget import forget
from feature_repo.history import Event, open_history
from feature_repo.inputs import write_days
from feature_repo.publish import publish
from feature_repo.store import generations, only_publisher
from sasrec.errors import DataError
from serving.events.writer import EventLog
from tests.feature_repo.small_history import END


def logged(user: str) -> dict:
    return {
        "type": "event",
        "event_id": f"e-{user}",
        "request_id": None,
        "user_id": user,
        "item_id": "i1",
        "event_type": "view",
        "timestamp": 1,
        "received_at": 1,
    }


@pytest.fixture
def home(tmp_path, interactions):
    days, repo_dir = tmp_path / "days", tmp_path / "feature_store"
    write_days(interactions, days)
    for _ in range(2):
        publish(
            repo_dir,
            interactions=days,
            items=None,
            impressions=None,
            cutoffs=None,
            as_of=END,
        )
    history = open_history(repo_dir / "history.db")
    log = EventLog(tmp_path / "event_log")
    for user in ("u3", "u4"):
        history.append(user, Event(f"e-{user}", "i1", "view", 1))
        log.append([logged(user)]).result()
    log.close()
    history.close()
    return tmp_path


def test_the_command_removes_one_user_and_leaves_the_others(home):
    command = [sys.executable, "-m", "feature_repo.forget", "u3", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "left of the user: online 0, offline 0, log 0\n"
    left = forget(home / "feature_store", home / "event_log", open_history(home / "x.db"), "nobody")
    assert left == {"online": 0, "offline": 0, "log": 0}
    history = open_history(home / "feature_store" / "history.db")
    assert history.latest("u3", 10) == []
    assert len(history.latest("u4", 10)) == 1


def test_the_command_looks_where_serving_was_told_to_write(home, monkeypatch):
    log = EventLog(home / "elsewhere")
    log.append([logged("u3")]).result()
    log.close()
    history = open_history(home / "elsewhere.db")
    history.append("u3", Event("e", "i1", "view", 1))
    monkeypatch.setenv("SASREC_HOME", str(home))
    monkeypatch.setenv("SASREC_EVENT_LOG", str(home / "elsewhere"))
    monkeypatch.setenv("SASREC_HISTORY", str(home / "elsewhere.db"))
    command = [sys.executable, "-m", "feature_repo.forget", "u3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(read_log(home / "elsewhere")) == []
    assert history.latest("u3", 10) == []


def test_a_mistyped_site_proves_nothing(tmp_path):
    command = [sys.executable, "-m", "feature_repo.forget", "u3", "--home", str(tmp_path / "typo")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'typo'}: no such site\n"
    assert not (tmp_path / "typo").exists()


def test_every_place_is_looked_at(home, monkeypatch):
    """What is left is counted, so a place that was not cleaned would show."""
    repo_dir = home / "feature_store"
    history = open_history(repo_dir / "history.db")
    for step in ("delete_online", "_rewrite_without", "event_log.forget"):
        monkeypatch.setattr(f"feature_repo.forget.{step}", lambda *_: None)
    monkeypatch.setattr(history, "forget", lambda *_: 0)
    left = forget(repo_dir, home / "event_log", history, "u3")
    assert left["online"] == 1
    assert left["offline"] > 100, "two generations and the day files"
    assert left["log"] == 1


def test_the_next_publish_does_not_bring_the_user_back(home):
    repo_dir = home / "feature_store"
    history = open_history(repo_dir / "history.db")
    forget(repo_dir, home / "event_log", history, "u3")
    report = publish(
        repo_dir,
        interactions=home / "days",
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=END,
    )
    assert not report.incremental
    assert len(generations(repo_dir)) == 2
    assert forget(repo_dir, home / "event_log", history, "u3")["offline"] == 0


def test_forgetting_waits_for_no_publish(home):
    repo_dir = home / "feature_store"
    with only_publisher(repo_dir), pytest.raises(DataError, match="a publish is running"):
        forget(repo_dir, home / "event_log", open_history(repo_dir / "history.db"), "u3")
