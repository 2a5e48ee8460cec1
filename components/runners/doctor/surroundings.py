"""What else the cluster must bring or must not do: sidecars, operators, Argo."""

from collections.abc import Iterator
from typing import Any

import yaml

from components.nodes.train_job import API_GROUP, RUNTIME
from components.runners.doctor.finding import Finding, bad, not_needed, ok
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target

_ARGO_CONFIG = "workflow-controller-configmap"
_KUBEFLOW = "kubeflow"
_PODS_ALONE = 'expression: lastRetry.message != ""'
_JOBSET = "jobsets.jobset.x-k8s.io"


def namespaces(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Sidecars of a profile's namespace stop pods that do not know of them."""
    wanted = {target.namespace, target.platform.serving_namespace or target.namespace}
    for name in sorted(wanted):
        found = cluster.get(f"/api/v1/namespaces/{name}")
        if found is None:
            yield bad(f"namespace {name}", "is not there", "docs/production.md, step 2, makes it")
        elif _injects(found) and name == target.platform.serving_namespace:
            yield from _serving_sidecar(cluster, name)
        else:
            yield ok(f"namespace {name}", "Istio injects" if _injects(found) else "no sidecars")


def _serving_sidecar(cluster: KubernetesFacts, namespace: str) -> Iterator[Finding]:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/sasrec-serving"
    pods = ((cluster.get(path) or {}).get("spec", {}).get("template", {})).get("metadata", {})
    labels = pods.get("labels", {}) | pods.get("annotations", {})
    if labels.get("sidecar.istio.io/inject") == "false":
        yield ok(f"namespace {namespace}", "Istio injects, and serving opts out")
    else:
        yield bad(
            f"namespace {namespace}",
            "istio-injection: enabled puts a sidecar before serving, which lets no run through",
            'deploy/kubernetes/base labels serving\'s pods sidecar.istio.io/inject: "false"',
        )


def _injects(namespace: dict[str, Any]) -> bool:
    labels = namespace["metadata"].get("labels", {})
    return labels.get("istio-injection") == "enabled" or "istio.io/rev" in labels


def trainer(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Training on several nodes is a TrainJob, which is a JobSet."""
    if target.nodes == 1:
        return
    for what, name in (("Trainer", f"trainjobs.{API_GROUP}"), ("JobSet", _JOBSET)):
        if cluster.crd(name) is None:
            yield bad(what, f"{name} is not there", "install Kubeflow Trainer 2.3 or later")
        else:
            yield ok(what, "is installed")
    path = f"/apis/{API_GROUP}/v1alpha1/namespaces/{target.namespace}/trainingruntimes/{RUNTIME}"
    if cluster.get(path) is None:
        yield bad(
            "TrainingRuntime",
            f"{RUNTIME} is not in {target.namespace}",
            "deploy/kubernetes/training in the overlay",
        )
    else:
        yield ok("TrainingRuntime", RUNTIME)


def prometheus(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Alerts and scraping; a run starts without."""
    if cluster.crd("servicemonitors.monitoring.coreos.com") is not None:
        yield ok("Prometheus operator", "is installed")
    else:
        yield not_needed(
            "Prometheus operator",
            "is not there: no alerts, and nothing is scraped",
            "install it, or leave ../../monitoring out of the overlay",
        )


def retry_policy(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """What Argo tries again is the install's choice: a pipeline cannot say it.

    KFP 2.17.0 installs OnError, under which a container that fails or runs out of memory is not
    tried again; Argo's own default, OnFailure, gives up on pods that were deleted. Always without
    an expression begins whole groups of tasks anew too, each within the one around it.
    """
    try:
        found = cluster.namespaced(_KUBEFLOW, "configmaps", _ARGO_CONFIG)
    except NotAllowed as error:
        yield not_needed("retries of stages", f"you may not look at it ({error})")
        return
    defaults = yaml.safe_load((found or {}).get("data", {}).get("workflowDefaults", "")) or {}
    template = defaults.get("spec", {}).get("templateDefaults", {})
    strategy = template.get("retryStrategy", {})
    policy = strategy.get("retryPolicy", "OnFailure")
    if policy == "Always" and strategy.get("expression"):
        yield ok("retries of stages", "Argo tries failed and lost pods again")
        return
    fix = (
        f"retryPolicy: Always and {_PODS_ALONE} in workflowDefaults of the ConfigMap "
        f"{_ARGO_CONFIG} in {_KUBEFLOW}: deploy/kubernetes/retry_policy.awk"
    )
    if policy == "Always":
        yield bad(
            "retries of stages",
            "Argo's retryPolicy is Always for groups of tasks too: a stage that fails runs "
            "hundreds of times",
            fix,
        )
        return
    lost = "a stage that fails" if policy == "OnError" else "a stage whose pod is deleted"
    yield not_needed(
        "retries of stages",
        f"Argo's retryPolicy is {policy}: {lost} is not tried again",
        fix,
    )


CHECKS = (namespaces, trainer, prometheus, retry_policy)
