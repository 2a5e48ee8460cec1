"""The exit handler: tell Prometheus how a run ended, whatever ended it, and let another begin."""

from kfp.dsl import PipelineTaskFinalStatus, component

from components.support.image import IMAGE


@component(base_image=IMAGE, install_kfp_package=False)
def report_outcome(
    pushgateway: str, run_dir: str, scheduled_at: str, run_id: str, status: PipelineTaskFinalStatus
):
    """Push when the last run with this outcome (deployed, held, ...) ended, and what it took.

    Nothing is pushed where `pushgateway` is empty. One that does not answer is said in the log and
    fails no run: what was deployed is deployed.

    The outcome is what the stages left behind. Kubeflow's status is only printed: it is ML
    Metadata's last state of the group of stages, such as COMPLETE, FAILED or still RUNNING.
    """
    import sys
    from pathlib import Path

    from components.support.outcome_metrics import push_outcome, run_outcome
    from components.support.run_identity import run_folder, run_moment
    from components.support.site_lease import give_back

    folder = Path(run_folder(run_dir, run_moment(scheduled_at), run_id))
    give_back(folder)
    outcome = run_outcome(folder)
    try:
        if pushgateway:
            push_outcome(pushgateway, folder)
    except OSError as error:
        print(f"{pushgateway}: {error}; the run's figures are lost", file=sys.stderr)
    print(f"{outcome}; Kubeflow says {status.state} of {status.pipeline_task_name}")
