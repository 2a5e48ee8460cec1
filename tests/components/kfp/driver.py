"""The driver's part of a task: its inputs, with placeholders filled in where KFP does so."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.components.kfp.documents import Version


@dataclass(frozen=True)
class RunFacts:
    """What placeholders are replaced by.

    Attributes:
        created_at: of the run; of a recurring run it is its scheduled time, plus what the
            controller was late: pipelines/backend/src/apiserver/resource/resource_manager.go,
            `SetCannonicalLabels`.
    """

    run_id: str
    name: str
    workflow: str
    created_at: datetime
    version: Version


def resolve_constant(text: str, task: str, facts: RunFacts) -> str:
    """A runtime constant as the component gets it.

    pipelines/backend/src/v2/driver/resolve.go: replaced only where the whole text is a placeholder.
    The times were known to no release before 2.16.0, which left them empty. `[[macros]]` are
    nobody's here: pipelines/backend/src/crd/controller/scheduledworkflow hands a pinned version's
    parameters over as they are.
    """
    moment = f"{facts.created_at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    times = {
        "{{$.pipeline_job_create_time_utc}}": moment,
        "{{$.pipeline_job_schedule_time_utc}}": moment,
    }
    if facts.version < (2, 16, 0):
        times = {}
    elif facts.version < (2, 17, 0):
        times = dict.fromkeys(times, "")
    known = times | {
        "{{$.pipeline_job_uuid}}": facts.run_id,
        "{{$.pipeline_job_name}}": facts.name,
        "{{$.pipeline_job_resource_name}}": facts.workflow,
        "{{$.pipeline_task_name}}": task,
    }
    return known.get(text, text)


def final_state(tasks: dict[str, str], expected: int) -> str:
    """ML Metadata's last state of a group of tasks, which is what an exit handler is given.

    pipelines/backend/src/v2/metadata/client.go, `UpdateDAGExecutionsState`: COMPLETE when all
    tasks are (a branch not taken is CANCELED and counts), FAILED when one is, else it stays
    RUNNING, as when a pod was deleted before it could say anything.
    """
    completed = [s for s in tasks.values() if s in ("COMPLETE", "CACHED", "CANCELED")]
    if len(completed) == expected:
        return "COMPLETE"
    return "FAILED" if "FAILED" in tasks.values() else "RUNNING"


def final_status(state: str, task: str, workflow: str) -> dict[str, Any]:
    """The `PipelineTaskFinalStatus` (upstream `driver/resolve.go`); its error is always empty."""
    return {
        "state": state,
        "pipelineTaskName": task,
        "pipelineJobResourceName": workflow,
        "error": {},
    }
