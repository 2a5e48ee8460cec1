"""The objects of a simulated Kubernetes cluster, by path, and who may do what."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

REVIEWS = "/apis/authorization.k8s.io/v1/"
# account (None: whoever asks), verb, group, resource, name -> allowed
Allows = Callable[[str | None, str, str, str, str], bool]


@dataclass
class Objects:
    """Objects by path, and access reviews.

    Attributes:
        held: path -> object. A list is what is held below its path.
        kinds: paths of lists that exist though nothing is held there: installed kinds.
        forbidden: paths that this client may not read.
        allows: who may do what, as RBAC decides.
    """

    held: dict[str, dict[str, Any]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    allows: Allows = lambda account, verb, group, resource, name: True

    def answer(self, method: str, url: str, _headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request."""
        parts = urlsplit(url)
        path = parts.path
        if path in self.forbidden:
            return _status(403, f"forbidden: cannot get {path}")
        if method == "POST" and path.startswith(REVIEWS):
            return self._review(path.removeprefix(REVIEWS), json.loads(body))
        if method != "GET":
            return _status(405, "this cluster only answers")
        if path in self.held:
            return 200, self.held[path]
        below = {p: o for p, o in self.held.items() if p.rpartition("/")[0] == path}
        if not below and path not in self.kinds:
            return _status(404, f"{path} not found")
        return 200, {"kind": "List", "items": [*_selected(below, parse_qs(parts.query))]}

    def _review(self, kind: str, review: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources"""
        if review.get("apiVersion") != "authorization.k8s.io/v1":
            return _status(400, "no version in the body")
        user = review["spec"].get("user", "")
        if (kind == "subjectaccessreviews") != bool(user):
            return _status(422, "spec.user: required of a SubjectAccessReview, and of it alone")
        asked = review["spec"]["resourceAttributes"]
        account = user.rpartition(":")[2] or None
        about = [asked.get(key, "") for key in ("verb", "group", "resource", "name")]
        return 201, {**review, "status": {"allowed": self.allows(account, *about)}}


def _selected(objects: dict[str, dict[str, Any]], query: dict[str, list[str]]) -> Any:
    [selector] = query.get("labelSelector", [""])
    wanted = dict(part.split("=") for part in selector.split(",") if part)
    for found in objects.values():
        if wanted.items() <= found["metadata"].get("labels", {}).items():
            yield found


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "message": message}
