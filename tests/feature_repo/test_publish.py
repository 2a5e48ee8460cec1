"""Publishing is all or nothing for readers, at whatever instant it is killed."""

import multiprocessing
import os
import signal
import time
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from feature_repo.extract import sequences_as_of
from feature_repo.profiles import PROFILE_SETTING
from feature_repo.publish import publish
from feature_repo.store import current_generation, open_feature_store
from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError
from tests.feature_repo.small_history import END

MIDDLE = END - timedelta(days=20)


def _publish(repo_dir, interactions, as_of):
    users = interactions["user_id"].unique()
    cutoffs = pa.table({"user_id": users, "cutoff": pa.array([MIDDLE] * len(users), TIMESTAMP)})
    return publish(
        repo_dir,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=cutoffs,
        as_of=as_of,
    )


def _online(repo_dir, user):
    return (
        open_feature_store(current_generation(repo_dir))
        .get_online_features(
            features=["user_sequence:item_ids", "user_stats:events"],
            entity_rows=[{"user_id": user}],
        )
        .to_dict()
    )


def test_the_online_store_holds_the_history_as_of(tmp_path, interactions):
    report = _publish(tmp_path, interactions, MIDDLE)
    rows = [e for e in interactions.to_pylist() if e["user_id"] == "u3"]
    past = sorted((e["timestamp"], e["item_id"]) for e in rows if e["timestamp"] <= MIDDLE)
    online = _online(tmp_path, "u3")
    assert online["item_ids"] == [[item for _, item in past]]
    assert online["events"] == [len(past)]
    assert report.events + report.future_events == interactions.num_rows
    assert datetime.fromisoformat(report.newest_event) <= MIDDLE


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_kill_leaves_the_previous_generation_usable(tmp_path, interactions, fraction):
    started = time.monotonic()
    _publish(tmp_path, interactions, MIDDLE)
    duration = time.monotonic() - started
    before = _online(tmp_path, "u3"), current_generation(tmp_path)
    child = multiprocessing.get_context("fork").Process(
        target=_publish, args=(tmp_path, interactions, END)
    )
    child.start()
    time.sleep(duration * fraction)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert (_online(tmp_path, "u3"), current_generation(tmp_path)) == before
    entities = pa.table({"user_id": ["u3"], "cutoff": pa.array([MIDDLE], TIMESTAMP)})
    assert len(sequences_as_of(tmp_path, entities)["item_ids"][0]) > 0

    _publish(tmp_path, interactions, END)
    assert _online(tmp_path, "u3") != before[0]
    assert len(list((tmp_path / "generations").iterdir())) == 2


def test_tied_events_are_refused(tmp_path, interactions):
    with pytest.raises(DataError, match="clean the source first"):
        _publish(tmp_path, pa.concat_tables([interactions, interactions.slice(0, 1)]), END)


def test_one_setting_chooses_the_profile(tmp_path, interactions, monkeypatch):
    monkeypatch.setenv(PROFILE_SETTING, "local")
    _publish(tmp_path, interactions, END)
    assert (current_generation(tmp_path) / "online.db").exists()
    monkeypatch.setenv(PROFILE_SETTING, "cloud")
    with pytest.raises(ValueError, match=f"^{PROFILE_SETTING}: 'cloud' is unknown; choose one of"):
        _publish(tmp_path, interactions, END)


def test_an_unknown_profile_is_refused(tmp_path, interactions):
    with pytest.raises(ValueError, match=r"^profile: 'cloud' is unknown; choose one of"):
        publish(
            tmp_path,
            interactions=interactions,
            items=None,
            impressions=None,
            cutoffs=None,
            as_of=END,
            profile="cloud",
        )
