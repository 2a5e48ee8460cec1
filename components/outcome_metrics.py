"""What Prometheus learns of a pipeline run, through a Pushgateway: batch jobs cannot be scraped."""

from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from components.stage import read_stages

JOB = "sasrec-pipeline"


def push_outcome(pushgateway: str, run_dir: Path, *, succeeded: bool) -> str:
    """Push one group per outcome, so that "when did a run last deploy?" survives a held run.

    Metrics: `reco_pipeline_last_run_timestamp_seconds` and `reco_pipeline_stage_seconds{stage}`.

    Returns:
        The outcome: deployed, held or failed.

    Raises:
        OSError: the gateway does not answer.
    """
    stages = read_stages(run_dir)
    deployed = stages.get("deploy", {}).get("status") == "done"
    outcome = "failed" if not succeeded else "deployed" if deployed else "held"
    registry = CollectorRegistry()
    Gauge(
        "reco_pipeline_last_run_timestamp_seconds",
        "When the last run with this outcome ended.",
        registry=registry,
    ).set_to_current_time()
    seconds = Gauge(
        "reco_pipeline_stage_seconds",
        "How long each stage of that run took.",
        ["stage"],
        registry=registry,
    )
    for stage, record in stages.items():
        seconds.labels(stage).set(record["seconds"])
    push_to_gateway(pushgateway, job=JOB, registry=registry, grouping_key={"outcome": outcome})
    return outcome
