"""What Prometheus learns of a pipeline run, which is over before it could be scraped.

On a cluster it is pushed to a Pushgateway; on one machine it is a text file of the site, which the
quality exporter (`serving.monitoring`) passes on, or node_exporter's textfile collector.
"""

import json
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from components.support.data_state import nothing_new
from components.support.stage import read_stages

JOB = "sasrec-pipeline"
TEXTFILES = "pipeline_metrics"
SKEW = "skew.json"
VERDICT, REFIT, PROMOTE = "verdict.json", "refit.json", "promote"
Outcome = Literal["deployed", "held", "unchanged", "failed"]


def feature_skew(run_dir: Path) -> dict[str, Any]:
    """Of the run's publish: `users` compared and `skewed_users` among them, as a finding."""
    path = run_dir / SKEW
    if not path.exists():
        return {"missing": "the run compared no features"}
    found = json.loads(path.read_text())
    return {name: found[name] for name in ("users", "skewed_users")}


def push_outcome(pushgateway: str, run_dir: Path) -> str:
    """Push one group per outcome, so that "when did a run last deploy?" survives a held run.

    Returns:
        The outcome: deployed, held, unchanged or failed.

    Raises:
        OSError: the gateway does not answer.
    """
    outcome, registry = describe_outcome(run_dir)
    push_to_gateway(pushgateway, job=JOB, registry=registry, grouping_key={"outcome": outcome})
    return outcome


def write_outcome(home: Path, run_dir: Path) -> str:
    """As `push_outcome`, into `<home>/pipeline_metrics/<outcome>.prom`, in one rename."""
    outcome, registry = describe_outcome(run_dir)
    folder = home / TEXTFILES
    folder.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(folder / f"{outcome}.prom"), registry)
    return outcome


def run_outcome(run_dir: Path) -> Outcome:
    """How a run ended, from what its stages left: no orchestrator is asked.

    A stage that is not done failed or was killed; a run that was canceled between two stages has
    neither a held verdict nor a deployment.
    """
    stages = read_stages(run_dir)
    if any(record["status"] != "done" for record in stages.values()):
        return "failed"
    if "deploy" in stages:
        return "deployed"
    if "ingest" in stages and nothing_new(run_dir):
        return "unchanged"
    verdict = run_dir / VERDICT
    if "gate" not in stages or not verdict.exists():
        return "failed"
    if json.loads(verdict.read_text())["decision"] != PROMOTE:
        return "held"
    refit = run_dir / REFIT
    if "refit" not in stages or not refit.exists():
        return "failed"
    made = json.loads(refit.read_text())["refit"]
    return "held" if made and made["verdict"]["decision"] != PROMOTE else "failed"


def describe_outcome(run_dir: Path) -> tuple[Outcome, CollectorRegistry]:
    """The outcome of a run and its metrics, all labelled with it."""
    stages, outcome = read_stages(run_dir), run_outcome(run_dir)
    registry = CollectorRegistry()
    Gauge(
        "reco_pipeline_last_run_timestamp_seconds",
        "When the last run with this outcome ended.",
        ["outcome"],
        registry=registry,
    ).labels(outcome).set_to_current_time()
    seconds = Gauge(
        "reco_pipeline_stage_seconds",
        "How long each stage of that run took.",
        ["outcome", "stage"],
        registry=registry,
    )
    for stage, record in stages.items():
        seconds.labels(outcome, stage).set(record["seconds"])
    skewed = Gauge(
        "reco_pipeline_skewed_users_ratio",
        "Sampled users whose online history differs from the offline one.",
        ["outcome"],
        registry=registry,
    )
    if (run_dir / SKEW).exists():
        found = json.loads((run_dir / SKEW).read_text())
        skewed.labels(outcome).set(found["skewed_users"] / max(1, found["users"]))
    return outcome, registry
