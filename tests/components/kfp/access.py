"""What an account may do, by the roles of the manifests and of the installs that they build on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path("deploy/kubernetes")


def _rule(group: str, resources: str, verbs: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}


# Roles that the cluster brings, as far as runs need them:
# pipelines/manifests/kustomize/base/pipeline/pipeline-runner-role.yaml,
# pipelines/manifests/kustomize/base/installs/multi-user/view-edit-cluster-roles.yaml
# (kubeflow-edit also aggregates Kubernetes' own `edit`).
PROVIDED = {
    "pipeline-runner": [
        _rule("", "secrets", "get"),
        _rule("", "configmaps", "get watch list"),
        _rule("", "pods pods/log", "*"),
        _rule("argoproj.io", "workflows", "get list watch update patch"),
        _rule("argoproj.io", "workflowtaskresults", "create patch"),
    ],
    "kubeflow-edit": [
        _rule("", "secrets configmaps pods pods/log persistentvolumeclaims", "*"),
        _rule("apps", "deployments", "*"),
        _rule("argoproj.io", "workflows workflowtaskresults", "*"),
    ],
}


@dataclass(frozen=True)
class Access:
    """Role bindings of one namespace.

    Attributes:
        rules: per account, the rules bound to it.
    """

    rules: dict[str, list[dict[str, Any]]]

    @classmethod
    def of_manifests(cls, *folders: str) -> "Access":
        """What applying these folders of `deploy/kubernetes` binds."""
        documents = list(_documents(folders or ("base",)))
        roles = {
            document["metadata"]["name"]: document["rules"]
            for document in documents
            if document["kind"] in ("Role", "ClusterRole")
        } | PROVIDED
        rules: dict[str, list[dict[str, Any]]] = {}
        for binding in (d for d in documents if d["kind"] == "RoleBinding"):
            for subject in binding["subjects"]:
                rules.setdefault(subject["name"], []).extend(roles[binding["roleRef"]["name"]])
        return cls(rules)

    def allows(self, account: str, verb: str, group: str, resource: str, name: str = "") -> bool:
        """As Kubernetes' RBAC decides: one rule must hold all of it."""
        return any(
            _covers(rule["apiGroups"], group)
            and _covers(rule["resources"], resource)
            and _covers(rule["verbs"], verb)
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self.rules.get(account, [])
        )


# Argo's executor reports by it: argo/workflow/executor/taskresult.go. Driver and launcher read the
# rest: config/env.go and objectstore/object_store.go of pipelines/backend/src/v2.
TASK_NEEDS = (
    ("create", "argoproj.io", "workflowtaskresults"),
    ("patch", "argoproj.io", "workflowtaskresults"),
    ("get", "", "configmaps"),
    ("get", "", "secrets"),
)


def _covers(listed: list[str], wanted: str) -> bool:
    return wanted in listed or "*" in listed


def _documents(folders: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for folder in folders:
        for path in sorted((MANIFESTS / folder).rglob("*.yaml")):
            yield from (d for d in yaml.safe_load_all(path.read_text()) if d and "metadata" in d)
