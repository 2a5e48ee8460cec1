"""The exit handler: tell Prometheus how a run ended, whatever ended it."""

from kfp.dsl import PipelineTaskFinalStatus, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def report_outcome(pushgateway: str, run_dir: str, status: PipelineTaskFinalStatus):
    """Push when the last run with this outcome (deployed, held, failed) ended, and what it took."""
    from pathlib import Path

    from components.support.outcome_metrics import push_outcome

    push_outcome(pushgateway, Path(run_dir), succeeded=status.state == "SUCCEEDED")
