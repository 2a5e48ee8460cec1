"""A run on the cluster: its stages, its verdict, and waiting for it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import kfp_server_api as kfp_api
from rich.console import Console
from rich.markup import escape

from components.runners.endpoint import ClusterError
from components.support.stage import STAGES

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_AROUND = ("start-run", "report-outcome")
_NEVER_BEGUN = "RUNTIME_STATE_UNSPECIFIED"
"""What the API makes of Argo's Omitted: a task behind one that failed."""
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})


class Outcome(StrEnum):
    """How a run ended."""

    DEPLOYED = "promoted and deployed"
    HELD = "held by the gate"
    UNCHANGED = "nothing new"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True)
class RunStatus:
    """A run as the cluster reports it.

    Attributes:
        state: KFP's word: PENDING, RUNNING, SUCCEEDED, FAILED, ...
        stages: KFP's word for each of the pipeline's stages that has begun.
        tasks: KFP's word for each task of whatever pipeline it is, by the task's own name.
        errors: what the cluster says went wrong, one line each. Of a stage it never says why:
            the API leaves a task's error out, which is in the log of the task's pod.
    """

    run_id: str
    name: str
    state: str
    created_at: datetime | None
    stages: dict[str, str]
    tasks: dict[str, str]
    errors: tuple[str, ...]

    @classmethod
    def of(cls, run: kfp_api.V2beta1Run) -> "RunStatus":
        """Read the API's answer."""
        tasks = (run.run_details.task_details if run.run_details else None) or []
        # Argo may begin a group of tasks anew: of two tasks of one name the later one counts.
        tasks = sorted(tasks, key=lambda task: task.start_time or _LONG_AGO)
        by_name = {task.display_name: task for task in tasks}
        stages = {
            name: by_name[kebab].state or "PENDING"
            for name in STAGES
            if (kebab := name.replace("_", "-")) in by_name and by_name[kebab].state != _NEVER_BEGUN
        }
        said = [run.error, *(entry.error for entry in run.state_history or [])]
        errors = [error.message for error in said if error and error.message]
        return cls(
            run_id=run.run_id,
            name=run.display_name,
            state=run.state or "PENDING",
            created_at=run.created_at,
            stages=stages,
            tasks={name: task.state or "PENDING" for name, task in by_name.items()},
            errors=tuple(dict.fromkeys(" ".join(error.split()) for error in errors)),
        )

    @property
    def failed(self) -> list[str]:
        """The stages that failed, in the pipeline's order, else its first and last task; else other
        tasks, Argo's groups of tasks among them.
        """
        failed = [task for task, state in self.tasks.items() if state == "FAILED"]
        stages = [stage for stage, state in self.stages.items() if state == "FAILED"]
        return stages or [task for task in _AROUND if task in failed] or failed

    @property
    def outcome(self) -> Outcome | None:
        """The verdict; None while the run goes on. A held model is a run that succeeded."""
        if self.state not in _ENDED:
            return None
        if self.state == "CANCELED":
            return Outcome.CANCELED
        if self.state != "SUCCEEDED":
            return Outcome.FAILED
        if self.stages.get("deploy") == "SUCCEEDED":
            return Outcome.DEPLOYED
        return Outcome.HELD if self.stages.get("gate") == "SUCCEEDED" else Outcome.UNCHANGED

    def line(self) -> str:
        """The run in one line of a list."""
        created = f"{self.created_at.astimezone(UTC):%Y-%m-%d %H:%M}" if self.created_at else ""
        return f"{self.run_id}  {created:16}  {self.outcome or self.state.lower():22}  {self.name}"


def watch_run(
    read: Callable[[], RunStatus],
    console: Console,
    *,
    explain: Callable[[RunStatus], list[str]],
    timeout_seconds: float | None = None,
    poll_seconds: float = 10.0,
) -> Outcome:
    """Print each change of a run until it ends. Leaving early leaves the run going.

    Args:
        explain: why a run failed, in lines.

    Raises:
        ClusterError: the time is up, or the cluster stayed away.
    """
    started = time.monotonic()
    shown: dict[str, str] = {}
    while True:
        status = read()
        for stage, state in status.stages.items():
            if shown.get(stage) != state:
                minutes, seconds = divmod(round(time.monotonic() - started), 60)
                console.print(f"{minutes:3d}:{seconds:02d}  {stage:18} {state.lower()}")
                shown[stage] = state
        if status.outcome is not None:
            why = explain(status) if status.outcome is Outcome.FAILED else []
            for error in [*status.errors, *why]:
                console.print(f"error: {escape(error)}", soft_wrap=True)
            return status.outcome
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            raise ClusterError(_still_going(status, timeout_seconds))
        time.sleep(poll_seconds)


def _still_going(status: RunStatus, seconds: float) -> str:
    message = (
        f"run {status.run_id} is {status.state} after {seconds:.0f} s; it goes on, watch it again"
    )
    if pending := [stage for stage, state in status.stages.items() if state == "PENDING"]:
        message += (
            f"; {', '.join(pending)} waits for an image, quota or a node: "
            f"kubectl describe pods -l pipeline/runid={status.run_id}"
        )
    return message
