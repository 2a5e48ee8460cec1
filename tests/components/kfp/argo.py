"""Argo's rules for a task that is tried again, on a clock that only they move."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Phase(StrEnum):
    """How a pod ended, as argo/workflow/controller/operator.go tells it (`inferFailedReason`).

    FAILED: its main container exited with another status than 0, or the kubelet evicted it and
    said why. ERROR: the pod is gone, as after a drained node, or a container of Argo's failed.
    """

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ERROR = "Error"


# argo/pkg/apis/workflow/v1alpha1/workflow_types.go, `RetryPolicyActual`: OnFailure by default.
_RETRIED = {
    "OnFailure": {Phase.FAILED},
    "OnError": {Phase.ERROR},
    "Always": {Phase.FAILED, Phase.ERROR},
}


@dataclass
class Clock:
    """The cluster's time."""

    now: datetime

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Retries:
    """A template's retryStrategy, as pipelines/backend/src/v2/compiler/argocompiler/container.go
    makes it of a task: no policy, so the install's own holds.
    """

    limit: int
    backoff_seconds: float
    factor: float
    max_seconds: float

    @classmethod
    def of(cls, task: dict[str, Any]) -> "Retries | None":
        """From a compiled task."""
        if (policy := task.get("retryPolicy")) is None:
            return None
        return cls(
            limit=int(policy["maxRetryCount"]),
            backoff_seconds=float(policy["backoffDuration"].removesuffix("s")),
            factor=float(policy["backoffFactor"]),
            max_seconds=float(policy["backoffMaxDuration"].removesuffix("s")),
        )


@dataclass
class Node:
    """A task as Argo saw it: each attempt's phase, and why there was no further one."""

    attempts: list[Phase] = field(default_factory=list)
    message: str = ""

    @property
    def phase(self) -> Phase:
        return self.attempts[-1]


def retry(
    attempt: Callable[[int], Phase],
    retries: Retries | None,
    policy: str,
    clock: Clock,
    deadline: datetime,
) -> Node:
    """Try until it succeeded or a rule ends it.

    argo/workflow/controller/operator.go, `processNodeRetries`: maxDuration counts from the start
    of the first attempt; a pause that would end after it is not begun; then the policy, then the
    limit.

    Args:
        attempt: one pod, by its number; it moves the clock.
        policy: OnFailure, OnError or Always.
        deadline: of the whole workflow.
    """
    node, started = Node(), clock.now
    while True:
        node.attempts.append(attempt(len(node.attempts)))
        if node.phase is Phase.SUCCEEDED or retries is None:
            return node
        pause = retries.backoff_seconds * retries.factor ** (len(node.attempts) - 1)
        last = started + timedelta(seconds=retries.max_seconds)
        if clock.now > deadline:
            node.message = "retry exceeded workflow deadline"
        elif clock.now > last:
            node.message = "Max duration limit exceeded"
        elif clock.now + timedelta(seconds=pause) > last:
            node.message = "Backoff would exceed max duration limit"
        elif node.phase not in _RETRIED[policy]:
            node.message = f"not retried under {policy}"
        elif len(node.attempts) > retries.limit:
            node.message = "No more retries left"
        if node.message:
            return node
        clock.wait(pause)
