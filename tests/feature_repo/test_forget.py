"""A forgotten user is in no store, no table and no log that is read again."""

import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_repo.command_line import run
from feature_repo.event_log import read_log
from feature_repo.forget import forget, main
from feature_repo.history import HistoryStore, StoredEvent, open_history
from feature_repo.inputs import write_days
from feature_repo.lake.lake import open_lake
from feature_repo.lake.site_data import take_all_in
from feature_repo.lease import take
from feature_repo.publish import publish
from feature_repo.run_copies import note_run
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


def served(user: str) -> dict:
    return {
        "type": "impression",
        "request_id": f"r-{user}",
        "user_id": user,
        "timestamp": 1,
        "policy": "champion",
        "model_version": "v",
        "candidates": 5,
        "item_ids": ["i1"],
        "scores": [0.5],
        "propensities": [0.5],
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
        history.append(user, StoredEvent(f"e-{user}", "i1", "view", 1))
        log.append([logged(user)]).result()
    log.append([served("u3"), served("u4")]).result()
    log.close()
    history.close()
    fill_lake(tmp_path, interactions)
    return tmp_path


def fill_lake(home: Path, interactions: pa.Table) -> None:
    """An import and what was logged."""
    pq.write_table(interactions, home / "data.parquet")
    take_all_in(
        open_lake(home),
        home / "event_log",
        dataset=str(home / "data.parquet"),
        data_dir=None,
        columns={},
        seed=0,
        now=datetime.now(UTC),
        retention=timedelta(days=50_000),
    )
    (home / "data.parquet").unlink()


def forget_user(home: Path, user: str, history: HistoryStore | None = None) -> dict[str, int]:
    repo_dir = home / "feature_store"
    history = history or open_history(repo_dir / "history.db")
    return forget(repo_dir, home / "event_log", history, open_lake(home), user)


def test_the_command_removes_one_user_and_leaves_the_others(home):
    command = [sys.executable, "-m", "feature_repo.forget", "u3", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "left of the user: online 0, offline 0, data 0, log 0\n"
    assert b"u3" not in b"".join(path.read_bytes() for path in home.rglob("lake/*/_delta_log/*"))
    assert forget_user(home, "nobody") == {"online": 0, "offline": 0, "data": 0, "log": 0}
    history = open_history(home / "feature_store" / "history.db")
    assert history.latest("u3", 10) == []
    assert len(history.latest("u4", 10)) == 1


def test_what_is_forgotten_is_overwritten_while_a_server_has_the_files_open(home):
    """SQLite keeps deleted rows in its file, and in its log of changes until a checkpoint."""
    history = open_history(home / "feature_store" / "history.db")
    history.append("u3", StoredEvent("e-late", "i1", "view", 2))
    newest = generations(home / "feature_store")[-1]
    with sqlite3.connect(newest / "online.db") as reader:
        tables = reader.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        assert _holds(home / "feature_store", "u3")
        forget_user(home, "u3", history)
        assert not _holds(home / "feature_store", "u3")
        assert _holds(home / "feature_store", "u4")
        assert tables
    history.close()


def _holds(folder: Path, user: str) -> list[Path]:
    """Database files in which the id stands, whether or not a query finds it."""
    stands = re.compile(user.encode() + rb"(?![0-9])")
    return [path for path in folder.rglob("*.db*") if stands.search(path.read_bytes())]


def test_a_segment_that_was_being_written_is_cut_by_the_next_run(home):
    log = EventLog(home / "event_log")
    log.append([logged("u3"), logged("u4")]).result()
    forget_user(home, "u3")
    assert b'"u3"' in _log_bytes(home)
    take_in_again(home)  # the server still writes
    log.append([logged("u5")]).result()
    log.close()
    take_in_again(home)
    assert b'"u3"' not in _log_bytes(home)
    [late] = [r for r in read_log(home / "event_log") if r["user_id"] == "u5"]
    assert late["event_id"] == "e-u5"


def take_in_again(home: Path) -> None:
    take_all_in(
        open_lake(home),
        home / "event_log",
        dataset=None,
        data_dir=None,
        columns={},
        seed=0,
        now=datetime.now(UTC),
        retention=timedelta(days=50_000),
    )


def _log_bytes(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (home / "event_log").glob("*.log"))


def test_the_copies_that_runs_kept_go(home, typed):
    run_dir = home / "runs" / "night"
    (run_dir / "artifacts").mkdir(parents=True)
    (run_dir / "report.html").touch()
    note_run(home, run_dir, keep=1)
    assert typed("u3", "--home", str(home))[0] == 0
    assert [path.name for path in run_dir.iterdir()] == ["report.html"]


@pytest.fixture
def typed(monkeypatch, capsys):
    """Runs the command in this process; returns its status and what it wrote to stderr."""

    def run_command(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["forget", *words])
        with pytest.raises(SystemExit) as end:
            run(main)
        return end.value.code, capsys.readouterr().err

    return run_command


def test_the_command_looks_where_serving_was_told_to_write(home, monkeypatch, typed):
    log = EventLog(home / "elsewhere")
    log.append([logged("u3")]).result()
    log.close()
    history = open_history(home / "elsewhere.db")
    history.append("u3", StoredEvent("e", "i1", "view", 1))
    monkeypatch.setenv("SASREC_HOME", str(home))
    monkeypatch.setenv("SASREC_EVENT_LOG", str(home / "elsewhere"))
    monkeypatch.setenv("SASREC_HISTORY", str(home / "elsewhere.db"))
    assert typed("u3")[0] == 0
    assert list(read_log(home / "elsewhere")) == []
    assert history.latest("u3", 10) == []


def test_the_command_waits_for_no_run(home):
    run = take(home, "nightly")  # of this living process
    command = [sys.executable, "-m", "feature_repo.forget", "u3", "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: another run is using {home}: nightly, process ")
    assert any(record["user_id"] == "u3" for record in read_log(home / "event_log"))
    run.release()


def test_a_mistyped_site_proves_nothing(tmp_path, typed):
    status, said = typed("u3", "--home", str(tmp_path / "typo"))
    assert status == 2
    assert said == f"error: {tmp_path / 'typo'}: no such site\n"
    assert not (tmp_path / "typo").exists()


def test_every_place_is_looked_at(home, monkeypatch):
    """What is left is counted, so a place that was not cleaned would show."""
    repo_dir = home / "feature_store"
    history = open_history(repo_dir / "history.db")
    for step in ("delete_online", "_rewrite_without", "event_log.forget"):
        monkeypatch.setattr(f"feature_repo.forget.{step}", lambda *_: None)
    monkeypatch.setattr(history, "forget", lambda *_: 0)
    monkeypatch.setattr("feature_repo.lake.lake.Lake.forget", lambda *_: None)
    left = forget_user(home, "u3", history)
    assert left["online"] == 1
    assert left["offline"] > 100, "two generations and the day files"
    assert left["data"] > 20, "imported, logged and served"
    assert left["log"] == 2


def test_the_next_publish_does_not_bring_the_user_back(home):
    repo_dir = home / "feature_store"
    history = open_history(repo_dir / "history.db")
    forget_user(home, "u3", history)
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
    assert forget_user(home, "u3", history)["offline"] == 0


def test_forgetting_waits_for_no_publish(home):
    repo_dir = home / "feature_store"
    with only_publisher(repo_dir), pytest.raises(DataError, match="a publish is running"):
        forget_user(home, "u3")
