"""The production profile: the same store, its online side in a real Redis."""

import pyarrow as pa

from feature_repo.check_skew import check_skew
from feature_repo.extract import sequences_as_of
from feature_repo.forget import forget
from feature_repo.history import StoredEvent, open_history
from feature_repo.lake.lake import open_lake
from feature_repo.mirror import Mirror
from feature_repo.online import OnlineHistory
from feature_repo.publish import publish
from feature_repo.store import current_generation
from sasrec.data.schema import TIMESTAMP
from tests.feature_repo.small_history import END

USERS = 30


def run(repo_dir, interactions):
    users = [f"u{u}" for u in range(USERS)]
    return publish(
        repo_dir,
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=pa.table({"user_id": users, "cutoff": pa.array([END] * USERS, TIMESTAMP)}),
        as_of=END,
        profile="production",
    )


def test_published_read_mirrored_checked_and_forgotten(tmp_path, interactions, redis_url, server):
    run(tmp_path, interactions)
    history = open_history(redis_url)
    history.append("u3", StoredEvent("e1", "fresh", "view", int(END.timestamp() * 1e6)))
    served = OnlineHistory(tmp_path, history).read("u3", 1000)
    asked = pa.table({"user_id": ["u3"], "cutoff": pa.array([END], TIMESTAMP)})
    trained = sequences_as_of(tmp_path, asked)["item_ids"][0].as_py()
    assert served.item_ids == [*trained, "fresh"]

    mirror = Mirror(tmp_path, history)
    assert mirror.run_once() == 1
    history.append("u3", StoredEvent("e0", "late", "view", 1))
    mirror.run_once()
    alone = OnlineHistory(tmp_path, open_history(tmp_path / "empty.db")).read("u3", 1000)
    assert alone.item_ids == ["late", *trained, "fresh"]
    assert check_skew(tmp_path, history).skewed_users == 0

    assert (
        forget(tmp_path, tmp_path / "event_log", history, open_lake(tmp_path), "u3")["online"] == 0
    )
    assert not [key for key in server.scan_iter() if b"u3" in key and key[-2:] == b"u3"]


def test_each_generation_has_keys_of_its_own_and_old_ones_go(tmp_path, interactions, server):
    names = []
    for _ in range(3):
        run(tmp_path, interactions)
        names.append(current_generation(tmp_path).name)
    projects = {key[-len(names[0]) :].decode() for key in server.scan_iter()}
    assert projects == set(names[1:])
