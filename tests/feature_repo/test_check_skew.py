"""The check finds what differs between training and serving, and nothing else."""

import subprocess
import sys
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.check_skew import check_skew
from feature_repo.history import StoredEvent, open_history
from feature_repo.mirror import Mirror
from feature_repo.publish import publish
from feature_repo.store import current_generation, delete_online
from sasrec.data.schema import TIMESTAMP
from tests.feature_repo.small_history import END, START

BEGIN = int(START.timestamp() * 1e6)


def make_site(repo_dir, interactions):
    publish(
        repo_dir,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=END,
    )
    return open_history(repo_dir / "history.db")


def test_a_fresh_publish_has_no_skew_whatever_happened_since(tmp_path, interactions):
    history = make_site(tmp_path, interactions)
    history.append("u3", StoredEvent("e1", "i1", "view", int(END.timestamp() * 1e6) + 1))
    Mirror(tmp_path, history).run_once()
    report = check_skew(tmp_path, history, sample=200)
    assert report.users == len(interactions["user_id"].unique())
    assert (report.skewed_users, report.differences) == (0, [])


def test_an_event_that_came_late_is_shown_and_no_skew(tmp_path, interactions):
    history = make_site(tmp_path, interactions)
    history.append("u3", StoredEvent("e1", "i1", "view", BEGIN))
    report = check_skew(tmp_path, history)
    assert report.skewed_users == 0
    assert report.differences == [("u3", "late", BEGIN, "view", "i1")]


def test_what_serving_lacks_is_found(tmp_path, interactions):
    history = make_site(tmp_path, interactions)
    events = sum(user == "u3" for user in interactions["user_id"].to_pylist())
    delete_online(current_generation(tmp_path), "u3")
    report = check_skew(tmp_path, history)
    assert report.skewed_users == 1
    assert [d.kind for d in report.differences] == ["missing online"] * events


def test_what_serving_has_too_much_is_found(tmp_path, interactions):
    history = make_site(tmp_path, interactions)
    generation = current_generation(tmp_path)
    # Training tables of a day less than what is online, as after a half-restored backup.
    table = pq.ParquetFile(generation / "user_sequence" / "0000.parquet").read()
    limit = pa.scalar(END - timedelta(days=1), TIMESTAMP)
    older = table.filter(pc.less(table["event_timestamp"], limit))
    pq.write_table(older, generation / "user_sequence" / "0000.parquet")
    report = check_skew(tmp_path, history)
    assert report.skewed_users > 10
    assert {d.kind for d in report.differences} == {"only online"}


def test_a_site_without_features_is_said_in_one_line(tmp_path):
    command = [sys.executable, "-m", "feature_repo.check_skew", "--home", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no feature store is published here" in done.stderr
    assert len(done.stderr.splitlines()) == 1
