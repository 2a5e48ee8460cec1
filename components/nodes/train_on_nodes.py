"""Start a TrainJob, wait for it, take its model: the launcher's side of `train_node`."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client

from components.nodes.train_job import API_GROUP, API_VERSION, TrainJobSettings
from components.nodes.train_job_manifest import train_job
from components.nodes.train_node import read_result, say_launcher_lives, write_work
from sasrec.model.recommender import Recommender
from sasrec.training.loop import TrainResult
from serving.release.kubernetes import ApiFailure, broken_pod, call

T = TypeVar("T")

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DELETE_SECONDS = 300.0


class TrainJobError(RuntimeError):
    """Training on nodes failed; its checkpoint stays. One line: what, and the next step."""


def train_on_nodes(
    settings: TrainJobSettings,
    config: str,
    sequences: Path,
    folder: Path,
    api: client.ApiClient,
    namespace: str,
    *,
    warm_start: Recommender | None = None,
    poll_seconds: float = 5.0,
) -> TrainResult:
    """Train in a TrainJob named after `folder`, which the nodes see under the same path.

    Repeating it after any failure continues: with the TrainJob that a killed launcher left
    running, else from the checkpoint in `folder`. SIGTERM ends the TrainJob too, and so does the
    removal of the run; its nodes give up when no launcher looks after them (`train_node`).

    Args:
        config: the `RunConfig` as JSON.
        sequences: a saved `SequenceDataset`.
        namespace: of this pod, where the site's volume is.
        warm_start: the model that training begins from, if any.

    Raises:
        TrainJobError: it was refused, a pod cannot start, it failed, or the time is over.
    """
    write_work(folder, config, sequences, warm_start)
    say_launcher_lives(folder)
    name = f"sasrec-train-{folder.name}"
    jobs = _TrainJobs(api, namespace, name, poll_seconds)
    with _sigterm_unwinds():
        try:
            jobs.start(train_job(name, folder, settings, jobs.run_of_this_pod()))
            jobs.wait(settings.timeout_seconds, lambda: say_launcher_lives(folder))
        finally:
            jobs.delete()
    return read_result(folder)


class _TrainJobs:
    """The one TrainJob of a name."""

    def __init__(
        self, api: client.ApiClient, namespace: str, name: str, poll_seconds: float
    ) -> None:
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._jobs = (API_GROUP, API_VERSION, namespace, "trainjobs")
        self._namespace, self._name, self._poll_seconds = namespace, name, poll_seconds

    def run_of_this_pod(self) -> dict[str, str] | None:
        """The Workflow that this pod is of, to own the job; None outside of Kubeflow.

        Not the pod itself: a retry is another pod, and adopts the job of the one before.
        """
        name = os.environ.get("KFP_POD_NAME")
        if not name:
            return None
        pod = self._ask(self._core.read_namespaced_pod, name, self._namespace)
        assert pod is not None
        owners = [o for o in pod.metadata.owner_references or [] if o.kind == "Workflow"]
        if not owners:
            own = {"apiVersion": "v1", "kind": "Pod", "name": name}
            return {**own, "uid": pod.metadata.uid}
        [owner] = owners
        fields = {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name}
        return {**fields, "uid": owner.uid}

    def start(self, job: dict[str, Any]) -> None:
        """Create the job, or adopt the same one if it still runs."""
        left = self._find()
        if left is not None and (left["spec"]["trainer"] != job["spec"]["trainer"] or _end(left)):
            self.delete()
            left = None
        owners = job["metadata"].get("ownerReferences")
        if left is not None and left["metadata"].get("ownerReferences") != owners:
            # Of an earlier run, whose removal would take it away from this one.
            body = {"metadata": {"ownerReferences": owners}}
            self._ask(self._objects.patch_namespaced_custom_object, *self._jobs, self._name, body)
        if left is None:
            # 409: an earlier try arrived, though its answer was lost.
            self._ask(self._objects.create_namespaced_custom_object, *self._jobs, job, accept=409)

    def wait(self, timeout_seconds: float, at_each_look: Callable[[], None]) -> None:
        """Return once it is complete."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            at_each_look()
            job = self._find()
            if job is None:
                raise self._error("someone deleted it; run the stage again")
            if condition := _end(job):
                if condition["type"] == "Complete":
                    return
                said = " ".join(condition.get("message", "").split())
                raise self._error(f"{condition.get('reason')} ({said}); {self._look()}")
            if reason := self._broken_pod():
                raise self._error(f"{reason}; {self._look()}")
            if time.monotonic() > deadline:
                raise self._error(
                    f"not complete after {timeout_seconds:.0f} s; where its pods wait for quota "
                    f"or a node: {self._look()}"
                )
            time.sleep(self._poll_seconds)

    def delete(self) -> None:
        """Delete the job with its pods, if it is there, and return once they are gone."""
        delete = self._objects.delete_namespaced_custom_object
        self._ask(delete, *self._jobs, self._name, propagation_policy="Foreground", accept=404)
        deadline = time.monotonic() + _DELETE_SECONDS
        while self._find() is not None:
            if time.monotonic() > deadline:
                raise self._error(f"still there {_DELETE_SECONDS:.0f} s after it was deleted")
            time.sleep(self._poll_seconds)

    def _find(self) -> dict[str, Any] | None:
        get = self._objects.get_namespaced_custom_object
        return self._ask(get, *self._jobs, self._name, accept=404)

    def _broken_pod(self) -> str:
        label = f"jobset.sigs.k8s.io/jobset-name={self._name}"
        pods = self._ask(self._core.list_namespaced_pod, self._namespace, label_selector=label)
        return broken_pod(pods) if pods else ""

    def _ask(
        self, request: Callable[..., T], *args: Any, accept: int | None = None, **kwargs: Any
    ) -> T | None:
        """The answer; None where the server refused with the status in `accept`."""
        try:
            return call(request, *args, pause_seconds=self._poll_seconds, **kwargs)
        except ApiFailure as error:
            if getattr(error, "status", None) == accept and _is_about_an_object(error):
                return None
            raise self._error(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        status = getattr(error, "status", None)
        where = f"namespace {self._namespace}"
        if status == 401:
            return f"401 in {where}, the token has expired; run the stage again"
        if status == 403:
            return (
                f"403 in {where}, no permission or quota ({_said(error)}); apply "
                "deploy/kubernetes/training, which binds the role sasrec-training to the run"
            )
        if status == 404:
            return (
                f"404 in {where}; Kubeflow Trainer 2.3 or later is not installed there, "
                "or the namespace is another"
            )
        if status in (400, 409, 422):
            return f"{status} in {where}, refused ({_said(error)}); check the platform settings"
        answered = status or type(error).__name__
        return f"the API server answered {answered}; run the stage again"

    def _error(self, message: str) -> TrainJobError:
        return TrainJobError(f"TrainJob {self._name}: {message}")

    def _look(self) -> str:
        return f"kubectl describe jobs,pods -l jobset.sigs.k8s.io/jobset-name={self._name}"


def _end(job: dict[str, Any]) -> dict[str, Any] | None:
    """The condition that ended the job, if one did."""
    conditions = job.get("status", {}).get("conditions", [])
    ended = [c for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    return next(iter(ended), None)


def _is_about_an_object(error: Exception) -> bool:
    """Whether a refusal names an object; an API that is not installed answers 404 without one."""
    try:
        return bool(json.loads(getattr(error, "body", "")).get("details", {}).get("name"))
    except (TypeError, ValueError, AttributeError):
        return False


def _said(error: Exception) -> str:
    try:
        text = json.loads(getattr(error, "body", ""))["message"]
    except (TypeError, ValueError, KeyError):
        text = getattr(error, "reason", "")
    return " ".join(str(text).split())[:300]


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM run what is to be done on the way out."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
