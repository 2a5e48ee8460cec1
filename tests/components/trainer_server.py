"""A small Kubernetes API server with Kubeflow Trainer: a TrainJob it is given trains, here."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from components.nodes.train_job import API_GROUP
from components.nodes.train_node import train_in
from tests.components.kfp.access import Access

JOBS = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/sasrec/trainjobs"
PODS = "/api/v1/namespaces/sasrec/pods"


def refusal(code: int, message: str, name: str = "") -> dict[str, Any]:
    """A Status; without a name it is what an API that is not installed answers."""
    details = {"name": name} if name else {}
    return {"kind": "Status", "code": code, "message": message, "details": details}


@dataclass
class Trainer:
    """TrainJobs by name.

    Attributes:
        ends: the condition that ends a new job; None trains and completes it.
        waiting: reason and message of pods that cannot start.
        answers: what to answer first, per method: a status and a body, or "lost" for a request
            that arrives and whose answer does not.
        requests: method and path of every request.
        pods: pods that can be read by name.
        access: what the account of runs may do here, by the manifests.
    """

    ends: dict[str, str] | None = None
    waiting: tuple[str, str] | None = None
    answers: dict[str, list[Any]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    access: Access = field(default_factory=lambda: Access.of_manifests("training"))

    def created(self) -> int:
        """How many jobs were asked for."""
        return sum(method == "POST" for method, _ in self.requests)

    def answer(self, method: str, url: str, _headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request."""
        path = urlsplit(url).path
        self.requests.append((method, path))
        first = self.answers[method].pop(0) if self.answers.get(method) else None
        if isinstance(first, tuple):
            return first
        if refused := self._forbidden(method, path):
            return refused
        status, answer = self._act(method, path, body)
        return (503, refusal(503, "lost")) if first == "lost" else (status, answer)

    def _forbidden(self, method: str, path: str) -> tuple[int, Any] | None:
        verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
        group, resource = ("", "pods") if path.startswith(PODS) else (API_GROUP, "trainjobs")
        verb = "list" if path == PODS else verb
        if self.access.allows("sasrec-pipeline", verb, group, resource):
            return None
        return 403, refusal(403, f"{resource} is forbidden: User cannot {verb} resource")

    def _act(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == PODS:
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": self._pods()}
        if path.startswith(f"{PODS}/"):
            name = path.rpartition("/")[2]
            found = self.pods.get(name)
            return (200, found) if found else (404, refusal(404, f'pods "{name}" not found', name))
        if not path.startswith(JOBS):
            return 404, refusal(404, "the server could not find the requested resource")
        if method == "POST":
            return self._create(json.loads(body))
        name = path.rpartition("/")[2]
        if name not in self.jobs:
            return 404, refusal(404, f'trainjobs "{name}" not found', name)
        if method == "PATCH":
            self.jobs[name]["metadata"] |= json.loads(body)["metadata"]
        return 200, self.jobs.pop(name) if method == "DELETE" else self.jobs[name]

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return 409, refusal(409, f'trainjobs "{name}" already exists', name)
        self.jobs[name] = job
        if not self.waiting:
            self.run(job)
        return 201, job

    def run(self, job: dict[str, Any]) -> None:
        """Train as the job says, or end it as told."""
        ends = self.ends
        if ends is None:
            train_in(Path(job["spec"]["trainer"]["command"][-1]))
            ends = {"type": "Complete", "reason": "JobsCompleted", "message": "done"}
        job["status"] = {"conditions": [{"status": "True", **ends}]}

    def _pods(self) -> list[dict[str, Any]]:
        if self.waiting is None:
            return []
        state = {"waiting": dict(zip(("reason", "message"), self.waiting, strict=True))}
        container = {"name": "node", "image": "i", "imageID": "", "ready": False, "state": state}
        statuses = {"containerStatuses": [{"restartCount": 0, **container}]}
        return [{"metadata": {"name": "sasrec-train-node-0-1"}, "status": statuses}]
