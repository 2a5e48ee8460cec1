import json

import pytest

from components.support.outcome_metrics import (
    feature_skew,
    push_outcome,
    run_outcome,
    write_outcome,
)
from sasrec.gates import GateConfig
from tests.json_server import running
from tests.pushgateway import Pushgateway


@pytest.fixture
def gateway():
    """A Pushgateway's address, and what it received per path."""
    gateway = Pushgateway()
    with running(gateway) as url:
        yield url.removeprefix("http://"), gateway.received


def record(run_dir, decision=None, **stages):
    if decision:
        (run_dir / "verdict.json").write_text(json.dumps({"decision": decision}))
    folder = run_dir / "stages"
    folder.mkdir(exist_ok=True)
    for stage, status in stages.items():
        (folder / f"{stage}.json").write_text(json.dumps({"status": status, "seconds": 2.5}))


@pytest.mark.parametrize(
    ("stages", "decision", "outcome"),
    [
        ({"gate": "done", "deploy": "done"}, "promote", "deployed"),
        ({"gate": "done"}, "hold", "held"),
        ({"gate": "done"}, "refuse", "held"),
        # Canceled, or killed, between two stages: nobody left a record of it.
        ({"gate": "done"}, "promote", "failed"),
        ({"gate": "done", "register": "done"}, "promote", "failed"),
        ({"train": "done"}, None, "failed"),
        ({"ingest": "failed"}, None, "failed"),
        ({"gate": "done", "deploy": "running"}, "promote", "failed"),
        ({}, None, "failed"),
    ],
)
def test_each_outcome_has_its_own_group(gateway, tmp_path, stages, decision, outcome):
    address, received = gateway
    record(tmp_path, decision, **stages)
    assert push_outcome(address, tmp_path) == outcome
    [(path, text)] = received.items()
    assert path == f"/metrics/job/sasrec-pipeline/outcome/{outcome}"
    assert f'reco_pipeline_last_run_timestamp_seconds{{outcome="{outcome}"}} 1' in text
    for stage in stages:
        assert f'reco_pipeline_stage_seconds{{outcome="{outcome}",stage="{stage}"}} 2.5' in text


def test_a_run_with_nothing_new_is_neither_held_nor_failed(tmp_path):
    (tmp_path / "data_state.json").write_text('{"nothing_new": "as the champion"}')
    assert run_outcome(tmp_path) == "failed", "of an earlier run in this folder"
    record(tmp_path, ingest="done")
    assert run_outcome(tmp_path) == "unchanged"


@pytest.mark.parametrize(("decision", "outcome"), [("hold", "held"), ("promote", "failed")])
def test_a_refit_that_is_held_is_no_failure(tmp_path, decision, outcome):
    """One that was promoted and not registered is."""
    record(tmp_path, "promote", gate="done", refit="done")
    made = {"refit": {"verdict": {"decision": decision}}}
    (tmp_path / "refit.json").write_text(json.dumps(made))
    assert run_outcome(tmp_path) == outcome


def test_a_run_on_this_machine_leaves_a_file_per_outcome(tmp_path):
    record(tmp_path, "hold", gate="done")
    assert write_outcome(tmp_path, tmp_path) == "held"
    record(tmp_path, gate="failed")
    assert write_outcome(tmp_path, tmp_path) == "failed"
    files = {path.name: path.read_text() for path in (tmp_path / "pipeline_metrics").iterdir()}
    assert files.keys() == {"held.prom", "failed.prom"}
    assert 'reco_pipeline_last_run_timestamp_seconds{outcome="held"} 1' in files["held.prom"]


def test_skew_is_a_metric_of_a_run_that_measured_it(gateway, tmp_path):
    address, received = gateway
    record(tmp_path, "hold", publish_features="done", gate="done")
    (tmp_path / "skew.json").write_text('{"users": 200, "skewed_users": 3, "differences": []}')
    push_outcome(address, tmp_path)
    [text] = received.values()
    assert 'reco_pipeline_skewed_users_ratio{outcome="held"} 0.015' in text


def test_a_gateway_that_is_away_fails_the_report(tmp_path):
    record(tmp_path)
    with pytest.raises(OSError, match="refused"):
        push_outcome("127.0.0.1:9", tmp_path)


def test_skew_is_a_finding_that_holds_a_model(tmp_path):
    assert feature_skew(tmp_path) == {"missing": "the run compared no features"}
    skew = {"users": 200, "skewed_users": 1, "differences": []}
    (tmp_path / "skew.json").write_text(json.dumps(skew))
    found = {"feature_skew": feature_skew(tmp_path)}
    assert found["feature_skew"] == {"users": 200, "skewed_users": 1}
    [gate] = [g for g in GateConfig.load().gates if g.name == "serving reads what training sees"]
    assert not gate.judge_findings(found).passed
    assert gate.judge_findings({"feature_skew": {"users": 200, "skewed_users": 0}}).passed
