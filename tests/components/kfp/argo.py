"""Argo's rules for a task that is tried again, on a clock that only they move."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import yaml


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


# pipelines/manifests/kustomize/third-party/argo/base/workflow-controller-configmap-patch.yaml
KFP_DEFAULTS = """\
spec:
  templateDefaults:
    retryStrategy:
      limit: '2'
      retryPolicy: OnError
"""


@dataclass(frozen=True)
class Defaults:
    """The retryStrategy of an install's `templateDefaults`.

    Argo merges it into *every* template: of a task, below its own, and of each group of tasks,
    which it then begins anew as a whole (argo/workflow/controller/operator.go,
    `mergedTemplateDefaultsInto`, `executeTemplate`).

    Attributes:
        limit: None where templates without a retryStrategy of their own get none.
        expression: asked after policy and limit. A group of tasks has no message, a pod has one.
    """

    policy: str = "OnFailure"
    limit: int | None = None
    expression: str = ""

    @classmethod
    def of(cls, workflow_defaults: str) -> "Defaults":
        """From the ConfigMap's `workflowDefaults`."""
        template = yaml.safe_load(workflow_defaults)["spec"]["templateDefaults"]
        strategy = template["retryStrategy"]
        return cls(
            strategy.get("retryPolicy", "OnFailure"),
            int(strategy["limit"]) if "limit" in strategy else None,
            strategy.get("expression", ""),
        )

    def again(self, message: str) -> bool:
        """What the expression says of what ended with this message."""
        if self.expression == 'lastRetry.message != ""':
            return message != ""
        if self.expression:
            raise NotImplementedError(self.expression)
        return True


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

    @classmethod
    def default(cls, defaults: Defaults) -> "Retries | None":
        """Of a template that has none of its own."""
        return None if defaults.limit is None else cls(defaults.limit, 0, 1, math.inf)


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
    defaults: Defaults,
    clock: Clock,
    deadline: datetime,
    message: str = "main: Error (exit code 1)",
) -> Node:
    """Try until it succeeded or a rule ends it.

    argo/workflow/controller/operator.go, `processNodeRetries`: maxDuration counts from the start
    of the first attempt; a pause that would end after it is not begun; then the policy, then the
    limit, then the expression.

    Args:
        attempt: one pod, by its number; it moves the clock.
        defaults: of the install.
        deadline: of the whole workflow.
        message: of an attempt that did not succeed.
    """
    node, started = Node(), clock.now
    while True:
        node.attempts.append(attempt(len(node.attempts)))
        if node.phase is Phase.SUCCEEDED or retries is None:
            return node
        pause = retries.backoff_seconds * retries.factor ** (len(node.attempts) - 1)
        seconds = (clock.now - started).total_seconds()
        if clock.now > deadline:
            node.message = "retry exceeded workflow deadline"
        elif seconds > retries.max_seconds:
            node.message = "Max duration limit exceeded"
        elif seconds + pause > retries.max_seconds:
            node.message = "Backoff would exceed max duration limit"
        elif node.phase not in _RETRIED[defaults.policy]:
            node.message = f"not retried under {defaults.policy}"
        elif len(node.attempts) > retries.limit:
            node.message = "No more retries left"
        elif not defaults.again(message):
            node.message = "retryStrategy.expression evaluated to false"
        if node.message:
            return node
        clock.wait(pause)
