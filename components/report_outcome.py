"""The exit handler: tell Prometheus how a run ended, whatever ended it, and let another begin."""

from kfp.dsl import PipelineTaskFinalStatus, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def report_outcome(pushgateway: str, run_dir: str, status: PipelineTaskFinalStatus):
    """Push when the last run with this outcome (deployed, held, failed) ended, and what it took."""
    from pathlib import Path

    from components.support.outcome_metrics import push_outcome
    from components.support.site_lease import give_back

    give_back(Path(run_dir))
    push_outcome(pushgateway, Path(run_dir), succeeded=status.state == "SUCCEEDED")
