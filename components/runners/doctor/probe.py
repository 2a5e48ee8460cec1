"""A small pipeline that tries what only pods can: the volume from two of them, and the network."""

import tempfile
from dataclasses import replace
from pathlib import Path

from kfp import compiler, dsl
from rich.console import Console

from components.runners.cluster_run import RunStatus
from components.runners.doctor.finding import Finding, bad, ok
from components.runners.doctor.target import Target
from components.runners.endpoint import ClusterError
from components.runners.platform import place
from components.runners.pod_reasons import why_failed
from components.support.image import IMAGE

EXPERIMENT = "sasrec-doctor"
_FIXES = {
    "hold-lock": "chown the volume to user 10001: deploy/kubernetes/prepare-volume.yaml",
    "write": "chown the volume to user 10001: deploy/kubernetes/prepare-volume.yaml",
    "see-rename": "a volume whose mounts agree: NFS with actimeo=1 or less, CephFS, EFS",
    "find-locked": "mount without `nolock`/`local_lock`, or use another kind of volume",
    "reach": "a NetworkPolicy that lets pods with the label pipeline/runid out to it, and for a "
    "bucket a Secret in the platform file whose account may write there",
}


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def hold_lock(folder: str, run_id: str):
    """Hold a lock and rename a file while the other pod looks."""
    from pathlib import Path

    from components.runners.doctor import volume_probe

    volume_probe.hold(Path(folder) / run_id)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def write(folder: str, run_id: str):
    """Write, fsync, rename and remove as the stages do."""
    from pathlib import Path

    from components.runners.doctor import volume_probe

    volume_probe.write(Path(folder) / run_id)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def see_rename(folder: str, run_id: str):
    """See the other pod's renamed file, whole."""
    from pathlib import Path

    from components.runners.doctor import volume_probe

    volume_probe.see_rename(Path(folder) / run_id)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def find_locked(folder: str, run_id: str):
    """Find the other pod's lock taken, and then let it go."""
    from pathlib import Path

    from components.runners.doctor import volume_probe

    volume_probe.find_locked(Path(folder) / run_id)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def reach(addresses: list, run_id: str):
    """Open a connection to each address and to Redis, and write where the environment puts data."""
    import os

    from components.runners.doctor import volume_probe

    volume_probe.reach([*addresses, *volume_probe.named_in(os.environ)])
    for url in volume_probe.stores_in(os.environ):
        volume_probe.store(url, run_id)


def probe_pipeline(target: Target) -> dsl.graph_component.GraphComponent:
    """The pipeline, on the platform's image, volume, secrets and account."""

    @dsl.pipeline(name="sasrec-doctor", description="Tries the volume from two pods.")
    def probe():
        run = {
            "folder": f"{target.platform.mount_path}/.doctor",
            "run_id": dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        }
        pushgateway = target.platform.pushgateway
        tasks = [
            write(**run),
            hold_lock(**run),
            reach(addresses=[pushgateway] if pushgateway else [], run_id=run["run_id"]),
        ]
        renamed = see_rename(**run)
        tasks += [renamed, find_locked(**run).after(renamed)]
        for task in tasks:
            place(task, target.platform, target.platform.defaults.model_copy(update=_SMALL))

    return probe


_SMALL = {"cpu": "100m", "retries": 0, "timeout_seconds": 900}


def run_probe(target: Target, *, timeout_seconds: float) -> list[Finding]:
    """Run it and say what each task found."""
    if target.kubeflow is None:
        return []
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "doctor.yaml"
        compiler.Compiler().compile(probe_pipeline(target), str(package))
        try:
            status = target.kubeflow.run_to_end(
                package, EXPERIMENT, Console(quiet=True), timeout_seconds=timeout_seconds
            )
        except ClusterError as error:
            return [bad("probe", str(error), "look at its pods, then run it again")]
    return [_finding(task, status, target) for task in _FIXES]


def _finding(task: str, status: RunStatus, target: Target) -> Finding:
    state = status.tasks.get(task, "not begun")
    if state == "SUCCEEDED":
        return ok(f"probe: {task}", "as it must be")
    this_one = replace(status, stages={}, tasks={task: state})
    why = why_failed(this_one, target.namespace)[0]
    return bad(f"probe: {task}", f"{state}; {why}", _FIXES[task])
