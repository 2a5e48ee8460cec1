"""What Prometheus learns of a pipeline run, which is over before it could be scraped.

On a cluster it is pushed to a Pushgateway; on one machine it is a text file of the site, which the
quality exporter (`serving.monitoring`) passes on, or node_exporter's textfile collector.
"""

import json
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway, write_to_textfile

from components.support.stage import read_stages

JOB = "sasrec-pipeline"
TEXTFILES = "pipeline_metrics"
SKEW = "skew.json"


def push_outcome(pushgateway: str, run_dir: Path, *, succeeded: bool) -> str:
    """Push one group per outcome, so that "when did a run last deploy?" survives a held run.

    Returns:
        The outcome: deployed, held or failed.

    Raises:
        OSError: the gateway does not answer.
    """
    outcome, registry = describe_outcome(run_dir, succeeded=succeeded)
    push_to_gateway(pushgateway, job=JOB, registry=registry, grouping_key={"outcome": outcome})
    return outcome


def write_outcome(home: Path, run_dir: Path, *, succeeded: bool) -> str:
    """As `push_outcome`, into `<home>/pipeline_metrics/<outcome>.prom`, in one rename."""
    outcome, registry = describe_outcome(run_dir, succeeded=succeeded)
    folder = home / TEXTFILES
    folder.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(folder / f"{outcome}.prom"), registry)
    return outcome


def describe_outcome(run_dir: Path, *, succeeded: bool) -> tuple[str, CollectorRegistry]:
    """The outcome of a run and its metrics, all labelled with it."""
    stages = read_stages(run_dir)
    deployed = stages.get("deploy", {}).get("status") == "done"
    outcome = "failed" if not succeeded else "deployed" if deployed else "held"
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
