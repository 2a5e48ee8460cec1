"""The summary says what shipped, and for what reason nothing did."""

import json
from types import SimpleNamespace

import pytest

from components.support.outcome_metrics import REFIT
from components.support.settings import build_config
from components.support.summary import write_summary

EVALUATION = SimpleNamespace(
    protocol=SimpleNamespace(split={"kind": "global-time"}),
    metrics={"model": {"ndcg@10": 0.3}, "popularity": {"ndcg@10": 0.1}},
)


@pytest.fixture
def run_dir(tmp_path):
    """What the stages of a run leave, as far as its gate."""
    files = {
        "verdict.json": {"decision": "promote", "summary": "14 gates passed"},
        "data.json": {"events": 7},
        "training.json": {"best_epoch": 2},
        "stages/ingest.json": {"status": "done", "seconds": 1.5, "peak_memory_mib": 90},
        "stages/gate.json": {"status": "done", "seconds": 0.5, "peak_memory_mib": 80},
    }
    for name, content in files.items():
        path = tmp_path / "a run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path / "a run"


def refit(run_dir, decision):
    verdict = {"decision": decision, "summary": "1 gate failed"}
    (run_dir / REFIT).write_text(json.dumps({"refit": {"verdict": verdict}}))


def test_a_deployed_run(run_dir):
    refit(run_dir, "promote")
    (run_dir / "deployment.json").write_text('{"version": "abc"}')
    summary = write_summary(build_config(), EVALUATION, run_dir)
    assert json.loads((run_dir / "summary.json").read_text()) == summary
    assert (summary["run"], summary["model_version"], summary["deployed"]) == ("a run", "abc", True)
    assert summary["gate"] == {"verdict": "promote", "reason": "14 gates passed"}
    assert summary["metrics"] == {"ndcg@10": 0.3}
    assert summary["baselines"] == {"popularity": {"ndcg@10": 0.1}}
    assert summary["seconds"] == {"ingest": 1.5, "gate": 0.5}
    assert summary["peak_memory_mib"] == {"ingest": 90, "gate": 80}


def test_a_refit_that_is_held_holds_the_run(run_dir):
    refit(run_dir, "hold")
    summary = write_summary(build_config(), EVALUATION, run_dir)
    assert summary["gate"] == {"verdict": "hold", "reason": "the refit: 1 gate failed"}
    assert (summary["model_version"], summary["deployed"]) == (None, False)


def test_a_run_without_a_refit_stands_by_its_gate(run_dir):
    (run_dir / REFIT).write_text('{"refit": null}')
    assert write_summary(build_config(), EVALUATION, run_dir)["gate"]["verdict"] == "promote"
