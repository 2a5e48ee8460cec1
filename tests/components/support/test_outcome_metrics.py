import json

import pytest

from components.support.outcome_metrics import push_outcome, write_outcome
from tests.json_server import running
from tests.pushgateway import Pushgateway


@pytest.fixture
def gateway():
    """A Pushgateway's address, and what it received per path."""
    gateway = Pushgateway()
    with running(gateway) as url:
        yield url.removeprefix("http://"), gateway.received


def record(run_dir, **stages):
    folder = run_dir / "stages"
    folder.mkdir()
    for stage, status in stages.items():
        (folder / f"{stage}.json").write_text(json.dumps({"status": status, "seconds": 2.5}))


@pytest.mark.parametrize(
    ("stages", "succeeded", "outcome"),
    [
        ({"gate": "done", "deploy": "done"}, True, "deployed"),
        ({"gate": "done"}, True, "held"),
        ({"ingest": "failed"}, False, "failed"),
        ({"gate": "done", "deploy": "running"}, False, "failed"),
        ({}, False, "failed"),
    ],
)
def test_each_outcome_has_its_own_group(gateway, tmp_path, stages, succeeded, outcome):
    address, received = gateway
    record(tmp_path, **stages)
    assert push_outcome(address, tmp_path, succeeded=succeeded) == outcome
    [(path, text)] = received.items()
    assert path == f"/metrics/job/sasrec-pipeline/outcome/{outcome}"
    assert f'reco_pipeline_last_run_timestamp_seconds{{outcome="{outcome}"}} 1' in text
    for stage in stages:
        assert f'reco_pipeline_stage_seconds{{outcome="{outcome}",stage="{stage}"}} 2.5' in text


def test_a_run_on_this_machine_leaves_a_file_per_outcome(tmp_path):
    record(tmp_path, gate="done")
    assert write_outcome(tmp_path, tmp_path, succeeded=True) == "held"
    assert write_outcome(tmp_path, tmp_path, succeeded=False) == "failed"
    files = {path.name: path.read_text() for path in (tmp_path / "pipeline_metrics").iterdir()}
    assert files.keys() == {"held.prom", "failed.prom"}
    assert 'reco_pipeline_last_run_timestamp_seconds{outcome="held"} 1' in files["held.prom"]


def test_skew_is_a_metric_of_a_run_that_measured_it(gateway, tmp_path):
    address, received = gateway
    record(tmp_path, publish_features="done")
    (tmp_path / "skew.json").write_text('{"users": 200, "skewed_users": 3, "differences": []}')
    push_outcome(address, tmp_path, succeeded=True)
    [text] = received.values()
    assert 'reco_pipeline_skewed_users_ratio{outcome="held"} 0.015' in text


def test_a_gateway_that_is_away_fails_the_report(tmp_path):
    record(tmp_path)
    with pytest.raises(OSError, match="refused"):
        push_outcome("127.0.0.1:9", tmp_path, succeeded=True)
