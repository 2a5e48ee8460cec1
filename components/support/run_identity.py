"""Which run this is: its moment and its folder, from what Kubeflow fills in for each run.

Kubeflow replaces a task's input only where it is a constant and *exactly* a placeholder such as
`{{$.pipeline_job_uuid}}` (upstream `backend/src/v2/driver/resolve.go`): not within a longer text,
not in a pipeline's parameter, and never `[[ScheduledTime]]` in a recurring run of a pinned version.
So the placeholders are inputs of their own, and what is longer is put together here.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime

MOMENT, RUN_ID = "{moment}", "{run_id}"
"""What a run folder's name may contain: the run's moment and a short form of Kubeflow's id."""
_UNRESOLVED = "{{$."


def run_moment(scheduled_at: str, environment: Mapping[str, str] = os.environ) -> datetime:
    """The moment that a run stands for: it uses what had happened before, however late it works.

    Of a recurring run it is when Kubeflow made the run at its scheduled time, of a run started by
    hand when it was started (upstream `backend/src/v2/cmd/driver/main.go`). Retries keep it. A run
    on this machine has no scheduled time: its moment is now.

    Raises:
        RuntimeError: the server left the placeholder as it was; one line.
    """
    if environment.get("SASREC_LOCAL_RUN"):
        return datetime.now(UTC)
    if scheduled_at.startswith(_UNRESOLVED) or not scheduled_at:
        raise RuntimeError(
            f"Kubeflow Pipelines did not fill in the run's time ('{scheduled_at}'); it is older "
            "than 2.17.0, upgrade it"
        )
    return datetime.fromisoformat(scheduled_at).astimezone(UTC)


def run_folder(
    template: str, moment: datetime, run_id: str, environment: Mapping[str, str] = os.environ
) -> str:
    """The run's folder, from a path that may contain `{moment}` and `{run_id}`.

    On a cluster one that lacks `{run_id}` gets it at its end. The folder is who holds the site's
    lease, and a run of the same name in another experiment, or a clone, is another run.
    """
    if RUN_ID not in template and not environment.get("SASREC_LOCAL_RUN"):
        template = f"{template}-{RUN_ID}"
    name = template.replace(MOMENT, f"{moment:%Y%m%d-%H%M%S}")
    return name.replace(RUN_ID, run_id.partition("-")[0])


def config_as_of(config: str, moment: datetime) -> str:
    """The configuration with its moment and `data.as_of`: what it names, else the moment."""
    settings = json.loads(config) | {"moment": moment.isoformat()}
    settings["data"]["as_of"] = settings["data"].get("as_of") or moment.isoformat()
    return json.dumps(settings)
