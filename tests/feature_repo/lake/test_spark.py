"""The same statements on a real Spark give the same artifacts."""

import pytest

from serving.events.writer import EventLog
from tests.feature_repo.lake.site import SPLIT, LakeSite, at, event, slate

CUTS = [SPLIT, SPLIT | {"kind": "leave-one-out"}]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut["kind"])
def test_spark_equals_duckdb(tmp_path, spark, cut):
    site = LakeSite(tmp_path)
    log = EventLog(site.log)
    kinds = ("view", "buy", "dislike")
    log.append(
        [
            event(
                event_id=f"e{n}",
                user_id=f"u{n % 7}",
                item_id=f"i{n % 5}",
                request_id=f"r{n % 7}" if n % 2 else None,
                event_type=kinds[n % 3],
                timestamp=at(300 - n // 50),  # ties and repetitions
            )
            for n in range(400)
        ]
    ).result()
    slates = [slate(request_id=f"r{n}", user_id=f"u{n}", timestamp=at(301)) for n in range(7)]
    log.append([s | {"item_ids": ["i1", "taken by nobody"]} for s in slates]).result()
    log.close()
    site.take_in()
    roles = {"buy": 3, "dislike": "negative"}
    found = {
        profile: site.read(cut=cut, roles=roles, profile=profile)
        for profile in ("local", "cluster")
    }
    local, cluster = found["local"], found["cluster"]
    assert local.report.ties_separated > 0
    assert set(local.impressions["reward"].to_pylist()) == {0.0, 1.0}
    for name in ("interactions", "items", "impressions"):
        assert getattr(cluster, name).to_pylist() == getattr(local, name).to_pylist(), name
    assert cluster.split.describe() == local.split.describe()
    assert cluster.report == local.report
