"""Who may do what: we, who start runs, and the account that runs act as."""

from collections.abc import Iterator

from components.nodes.train_job import API_GROUP
from components.runners.doctor.finding import Finding, bad, could_not_look, not_needed, ok
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target

Right = tuple[str, str, str, str]
"""Verb, API group, resource, name of the object."""

# What Kubeflow's driver and launcher and Argo's executor ask as the run's account: upstream
# backend/src/v2/config/env.go, objectstore/object_store.go, and argo-workflows
# workflow/executor/taskresult.go.
TASK_RIGHTS: tuple[Right, ...] = (
    ("create", "argoproj.io", "workflowtaskresults", ""),
    ("patch", "argoproj.io", "workflowtaskresults", ""),
    ("get", "", "configmaps", ""),
    ("get", "", "secrets", ""),
)
ROLLOUT_RIGHTS: tuple[Right, ...] = (
    ("get", "apps", "deployments", "sasrec-serving"),
    ("patch", "apps", "deployments", "sasrec-serving"),
    ("list", "", "pods", ""),
)
TRAINING_RIGHTS: tuple[Right, ...] = (
    ("create", API_GROUP, "trainjobs", ""),
    ("get", API_GROUP, "trainjobs", ""),
    ("delete", API_GROUP, "trainjobs", ""),
    ("patch", API_GROUP, "trainjobs", ""),
    ("get", "", "pods", ""),
    ("list", "", "pods", ""),
)
OUR_RIGHTS: tuple[Right, ...] = (
    ("create", "pipelines.kubeflow.org", "pipelines", ""),
    ("create", "pipelines.kubeflow.org", "runs", ""),
    ("create", "pipelines.kubeflow.org", "jobs", ""),
)


def ours(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Only a multi-user install asks Kubernetes whether we may."""
    missing = _missing(cluster, OUR_RIGHTS, target.namespace, None)
    if not missing:
        yield ok("your rights", f"runs and schedules in {target.namespace}")
    else:
        yield not_needed(
            "your rights",
            f"you may not {', '.join(missing)} in {target.namespace}, as this kubeconfig's user; "
            "only a multi-user install asks",
            f"the role kubeflow-edit in {target.namespace}",
        )


def runs_account(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """The account that every pod of a run acts as."""
    name, account = target.account, f"{target.namespace}:{target.account}"
    try:
        if cluster.namespaced(target.namespace, "serviceaccounts", name) is None:
            yield bad(
                "account of runs",
                f"no ServiceAccount {name} in {target.namespace}",
                "kubectl apply -k deploy/kubernetes/overlays/production, and "
                "KF_PIPELINES_SERVICE_ACCOUNT names it",
            )
            return
        missing = _missing(cluster, TASK_RIGHTS, target.namespace, account)
    except NotAllowed as error:
        yield could_not_look("account of runs", error, in_probe=True)
        return
    if missing:
        yield bad(
            "account of runs",
            f"{name} may not {', '.join(missing)}: the first pod of a run fails",
            "bind it to kubeflow-edit (in a profile) or pipeline-runner (single-user): "
            "deploy/kubernetes/profile or single-user in the overlay",
        )
    else:
        yield ok("account of runs", f"{name} may run tasks")


def rollout(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """`deploy` moves serving's pods to another image."""
    if (namespace := target.platform.serving_namespace) is None:
        return
    yield from _may(
        target, cluster, "rollout", ROLLOUT_RIGHTS, namespace, "the role sasrec-rollout"
    )


def training(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """`train` starts a TrainJob where it has several nodes."""
    if target.nodes > 1:
        yield from _may(
            target,
            cluster,
            "training on nodes",
            TRAINING_RIGHTS,
            target.namespace,
            "deploy/kubernetes/training in the overlay",
        )


def _may(
    target: Target,
    cluster: KubernetesFacts,
    check: str,
    rights: tuple[Right, ...],
    namespace: str,
    fix: str,
) -> Iterator[Finding]:
    account = f"{target.namespace}:{target.account}"
    try:
        missing = _missing(cluster, rights, namespace, account)
    except NotAllowed as error:
        yield could_not_look(check, error)
        return
    if missing:
        said = f"{target.account} may not {', '.join(missing)} in {namespace}"
        yield bad(check, said, f"bind it to {fix}")
    else:
        yield ok(check, f"{target.account} may in {namespace}")


def _missing(
    cluster: KubernetesFacts, rights: tuple[Right, ...], namespace: str, account: str | None
) -> list[str]:
    return [
        f"{verb} {resource}{'.' + group if group else ''}"
        for verb, group, resource, name in rights
        if not cluster.allows(verb, group, resource, namespace, name=name, account=account)
    ]


CHECKS = (ours, runs_account, rollout, training)
