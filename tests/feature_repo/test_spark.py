"""The cluster profile, on a real Spark and a real Redis: the same tables as with DuckDB."""

from datetime import timedelta

import duckdb
import pyarrow as pa
import pytest

from feature_repo.check_skew import check_skew
from feature_repo.extract import sequences_as_of
from feature_repo.forget import forget
from feature_repo.history import open_history
from feature_repo.inputs import write_days
from feature_repo.lake.lake import open_lake
from feature_repo.online import OnlineHistory, UserHistory
from feature_repo.publish import publish
from feature_repo.store import current_generation
from sasrec.data.schema import IMPRESSIONS, ITEMS, TIMESTAMP
from sasrec.errors import DataError
from tests.feature_repo.small_history import END, START, make_interactions

TABLES = ("user_sequence", "user_stats", "item_stats", "served_impressions")
PROFILES = ("cluster", "local")


def inputs():
    users = [f"u{u}" for u in range(120)]
    cutoffs = [END - timedelta(days=10)] * 120 + [END - timedelta(days=1)] * 120
    return {
        "items": pa.table(
            {
                "item_id": [f"i{i}" for i in range(60)],
                "title": pa.nulls(60, pa.string()),
                "category": ["a", None] * 30,
                "created_at": pa.array([START, None, END - timedelta(days=5)] * 20, TIMESTAMP),
            },
            schema=ITEMS,
        ),
        "impressions": pa.table(
            {
                "request_id": ["r", "r"],
                "user_id": ["u1", "u1"],
                "item_id": ["i1", "i2"],
                "position": [0, 1],
                "timestamp": pa.array([START, START], TIMESTAMP),
                "policy": ["champion"] * 2,
                "model_version": ["v"] * 2,
                "score": [0.5, None],
                "propensity": [0.25, 0.1],
                "candidates": [10, 10],
                "reward": [1.0, None],
            },
            schema=IMPRESSIONS,
        ),
        "cutoffs": pa.table({"user_id": users * 2, "cutoff": pa.array(cutoffs, TIMESTAMP)}),
        "as_of": END - timedelta(hours=7),
    }


def one_event_without_an_item() -> pa.Table:
    event = make_interactions(users=1, events=1, seed=1)
    return event.set_column(1, pa.field("item_id", pa.string()), pa.nulls(1, pa.string()))


def test_spark_equals_duckdb(tmp_path, interactions, spark, server):
    days = tmp_path / "days"
    write_days(interactions, days)
    write_days(one_event_without_an_item(), days)
    for profile in PROFILES:
        publish(tmp_path / profile, interactions=days, profile=profile, **inputs())
    for name in TABLES:
        found = {
            profile: duckdb.read_parquet(
                str(current_generation(tmp_path / profile) / name / "*.parquet")
            )
            .order("ALL")
            .to_arrow_table()
            for profile in PROFILES
        }
        assert found["cluster"].num_rows > 0
        assert found["cluster"].equals(found["local"]), name
    asked = inputs()["cutoffs"]
    found = {profile: sequences_as_of(tmp_path / profile, asked) for profile in PROFILES}
    assert found["cluster"].equals(found["local"])

    empty = open_history(tmp_path / "history.db")
    online = {p: OnlineHistory(tmp_path / p, empty).read("u3", 1000) for p in PROFILES}
    assert online["cluster"] == online["local"] != UserHistory([], [], [])
    assert check_skew(tmp_path / "cluster", empty).skewed_users == 0

    assert (
        forget(tmp_path / "cluster", tmp_path / "event_log", empty, open_lake(tmp_path), "u3")[
            "offline"
        ]
        == 0
    )
    rest = sequences_as_of(tmp_path / "cluster", asked)
    assert [len(r["item_ids"]) for r in rest.to_pylist() if r["user_id"] == "u3"] == [0, 0]


def test_spark_takes_a_table_in_memory_as_well(tmp_path, interactions, spark, server):
    publish(tmp_path / "cluster", interactions=interactions, profile="cluster", **inputs())
    publish(tmp_path / "local", interactions=interactions, **inputs())
    asked = inputs()["cutoffs"]
    cluster, local = (sequences_as_of(tmp_path / p, asked) for p in PROFILES)
    assert cluster.equals(local)


def test_without_java_it_says_what_to_install(tmp_path, interactions, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    write_days(interactions, tmp_path / "days")
    with pytest.raises(DataError, match="no Java runtime"):
        publish(tmp_path, interactions=tmp_path / "days", profile="cluster", **inputs())
