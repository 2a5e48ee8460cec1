"""A small Kubernetes API server with one Deployment, its pods, and a Service that answers.

What else a cluster holds is in `tests.serving.kubernetes_objects`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.serving.kubernetes_objects import Objects

DEPLOYMENT = "/apis/apps/v1/namespaces/sasrec/deployments/sasrec-serving"
PODS = "/api/v1/namespaces/sasrec/pods"
LABELS = {"app.kubernetes.io/name": "sasrec-serving"}


@dataclass
class Cluster:
    """One Deployment that settles a look after it was changed, unless told otherwise.

    Attributes:
        images: every image applied, in order; the first was there before.
        waiting: reason and message of pods that cannot start, per image.
        conditions: the Deployment's conditions while an image rolls out, per image.
        stuck: images whose pods never become ready.
        statuses: HTTP statuses to answer with first, per method.
        served: what the Service answers to a recommendation, from the serving image.
        service: serving itself, which is then asked in place of `served` and `api_key`: headers and
            body of a request to status and JSON.
        allows: what the account that asks may: verb, group, resource and name, as RBAC decides.
        objects: everything else that the cluster holds.
        container: what else the Deployment says of its container.
        template: what its pods have of metadata.
        removed: whether there is no Deployment.
        api_key: what the Service wants, as `serving.api.guard` does: 401 without, 403 for another.
    """

    images: list[str] = field(default_factory=lambda: ["sasrec:old"])
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    conditions: dict[str, dict[str, str]] = field(default_factory=dict)
    stuck: set[str] = field(default_factory=set)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    served: Callable[[str], tuple[int, dict[str, Any]]] = lambda image: (200, {})
    api_key: str = "smoke-test"
    service: Callable[[Any, bytes], tuple[int, Any]] | None = None
    allows: Callable[[str, str, str, str], bool] = lambda verb, group, resource, name: True
    objects: Objects = field(default_factory=Objects)
    container: dict[str, Any] = field(default_factory=dict)
    applies: list[dict[str, Any]] = field(default_factory=list)
    template: dict[str, Any] = field(default_factory=lambda: {"labels": LABELS})
    removed: bool = False
    _looks: int = 10

    @property
    def image(self) -> str:
        """What the Deployment asks for."""
        return self.images[-1]

    @property
    def settled(self) -> bool:
        """Whether the pods are what the Deployment asks for."""
        bad = self.image in self.stuck | self.waiting.keys() | self.conditions.keys()
        return self._looks > 1 and not bad

    @staticmethod
    def write_kubeconfig(path: Path, url: str) -> None:
        """A kubeconfig whose current context is the server at `url`."""
        config = {
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {}}],
        }
        path.write_text(json.dumps(config))

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request."""
        path = urlsplit(url).path
        if path == "/v1/recommend" and self.service:
            return self.service(headers, body)
        if path == "/v1/recommend":
            scheme, _, key = headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or not key:
                return 401, {"error": {"message": "send 'Authorization: Bearer KEY'"}}
            if key != self.api_key:
                return 403, {"error": {"message": "this key does not open this route"}}
            running = self.image if self.settled else self.images[-2]
            return self.served(running)
        if self.statuses.get(method):
            status = self.statuses[method].pop(0)
            return status, {"kind": "Status", "code": status, "message": f"told {status}"}
        if refusal := self._forbidden(method, path):
            return refusal
        if path == PODS and not self.removed:
            return 200, {"kind": "PodList", "apiVersion": "v1", "items": self._pods()}
        if path != DEPLOYMENT or self.removed:
            return self.objects.answer(method, url, headers, body)
        if method == "PATCH":
            self._apply(url, headers, json.loads(body))
        self._looks += method == "GET"
        return 200, self._deployment()

    def _forbidden(self, method: str, path: str) -> tuple[int, Any] | None:
        asked = {
            PODS: ("list", "", "pods", ""),
            DEPLOYMENT: (method.lower(), "apps", "deployments", "sasrec-serving"),
        }.get(path)
        if asked is None or self.allows(*asked):
            return None
        verb, _, resource, _ = asked
        message = f"{resource} is forbidden: User cannot {verb} resource"
        return 403, {"kind": "Status", "code": 403, "message": message}

    def _apply(self, url: str, headers: Any, body: dict[str, Any]) -> None:
        assert headers["Content-Type"] == "application/apply-patch+yaml"
        assert parse_qs(urlsplit(url).query)["fieldManager"] == ["sasrec-pipeline"]
        self.applies.append(body)
        [container] = body["spec"]["template"]["spec"]["containers"]
        self.images.append(container["image"])
        self._looks = 0

    def _deployment(self) -> dict[str, Any]:
        updated = 3 if self.settled else 1
        condition = self.conditions.get(self.image)
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "sasrec-serving", "generation": len(self.images)},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": LABELS},
                "template": {
                    "metadata": self.template,
                    "spec": {
                        "containers": [{**self.container, "name": "serving", "image": self.image}]
                    },
                },
            },
            "status": {
                "observedGeneration": len(self.images) - (self._looks < 1),
                "replicas": 3 if self.settled else 4,
                "updatedReplicas": updated,
                "readyReplicas": 3,
                "availableReplicas": 3,
                "conditions": [{"status": "True", **condition}] if condition else [],
            },
        }

    def _pods(self) -> list[dict[str, Any]]:
        if self.image not in self.waiting:
            return []
        reason, message = self.waiting[self.image]
        status = {
            "name": "serving",
            "image": self.image,
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": message}},
        }
        return [
            {"metadata": {"name": "sasrec-serving-x"}, "status": {"containerStatuses": [status]}}
        ]
