"""Whether network policies let the pods of runs and of serving out to what they use."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from components.runners.doctor.finding import Finding, bad, could_not_look, ok
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.network_policy import Place, lets_out, selects
from components.runners.doctor.secrets import value_of
from components.runners.doctor.target import Target
from feature_repo.lake.lake import LAKE_URL
from feature_repo.lease import MODELS_URL

_PORTS = {"redis": 6379, "rediss": 6379, "http": 80, "https": 443, "s3": 443, "gs": 443}
_S3_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# What every pod of a run asks: upstream backend/src/v2/metadata/env.go and objectstore/config.go.
# Where an install names them otherwise, only the probe shows it.
_METADATA = "metadata-grpc-service.kubeflow:8080"
_ARTIFACTS = "seaweedfs.kubeflow:9000"
_API = "kubernetes.default:443"
_SERVING = "/apis/apps/v1/namespaces/{}/deployments/sasrec-serving"
_RUN_LABELS = {
    "pipeline/runid": "any",
    "workflows.argoproj.io/workflow": "any",
    "pipelines.kubeflow.org/v2_component": "true",
}


def egress_of_runs(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Redis, buckets and the Pushgateway, and what Kubeflow's own part of each pod asks."""

    def used() -> Iterator[tuple[str, str]]:
        yield from _named_in(_variables_of_runs(target, cluster))
        if target.platform.pushgateway:
            yield "the Pushgateway", target.platform.pushgateway
        yield "the Kubernetes API", _API
        for name, address in (("ML Metadata", _METADATA), ("artifacts", _ARTIFACTS)):
            elsewhere = name == "artifacts" and target.platform.artifact_root
            if not elsewhere and _service(cluster, address, target.namespace) is not None:
                yield name, address

    yield from _egress("runs", target.namespace, _RUN_LABELS, used, cluster, in_probe=True)


def egress_of_serving(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """The same Redis, and the models where they are in a bucket."""
    if (namespace := target.platform.serving_namespace) is None:
        return
    deployment = cluster.get(_SERVING.format(namespace))
    if deployment is None:
        yield bad(
            "serving",
            f"no Deployment sasrec-serving in {namespace}, which `deploy` rolls out",
            "kubectl apply -k deploy/kubernetes/overlays/production",
        )
        return
    template = deployment["spec"]["template"]
    [container, *_] = template["spec"]["containers"]

    def used() -> Iterator[tuple[str, str]]:
        yield from _named_in(_variables_of(container, namespace, cluster))

    labels = template["metadata"].get("labels", {})
    yield from _egress("serving", namespace, labels, used, cluster)


def _egress(
    whose: str,
    namespace: str,
    labels: Mapping[str, str],
    used: Callable[[], Iterator[tuple[str, str]]],
    cluster: KubernetesFacts,
    *,
    in_probe: bool = False,
) -> Iterator[Finding]:
    """A finding for each address that these pods use.

    Args:
        used: what the address is, and `host:port`.
    """
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    try:
        policies = (cluster.get(path) or {}).get("items", [])
        rules = [
            policy
            for policy in policies
            if "Egress" in policy["spec"].get("policyTypes", [])
            and selects(policy["spec"].get("podSelector") or {}, labels)
        ]
        if not rules:
            yield ok(f"egress of {whose}", "no network policy restricts it")
            return
        for name, address in used():
            place = _place(cluster, address, namespace)
            if any(lets_out(policy, place, namespace) for policy in rules):
                yield ok(f"egress of {whose}", f"to {name}, {address}")
            else:
                names = ", ".join(policy["metadata"]["name"] for policy in rules)
                yield bad(
                    f"egress of {whose}",
                    f"no rule lets {whose} out to {name}, {address} ({names})",
                    f"a NetworkPolicy in {namespace} that lets {whose} out to it",
                )
    except NotAllowed as error:
        yield could_not_look(f"egress of {whose}", error, in_probe=in_probe)


def _named_in(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The addresses in a pod's environment."""
    redis = {_host_and_port(variables.get("SASREC_HISTORY", ""))}
    redis.add(variables.get("REDIS_CONNECTION", "").partition(",")[0])
    for address in sorted(redis - {""}):
        yield "Redis", address
    buckets = [variables[name] for name in (LAKE_URL, MODELS_URL) if variables.get(name)]
    if buckets:
        endpoint = next((variables[name] for name in _S3_ENDPOINTS if variables.get(name)), "")
        yield "the bucket", _host_and_port(endpoint or buckets[0])


def _host_and_port(url: str) -> str:
    """`host:port` of a URL; empty where it is none."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.scheme not in _PORTS:
        return ""
    return f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"


def _variables_of_runs(target: Target, cluster: KubernetesFacts) -> dict[str, str]:
    variables = dict(target.platform.environment)
    for secret in target.platform.secrets:
        held = cluster.namespaced(target.namespace, "secrets", secret.name)
        variables |= {name: value_of(held, key) for name, key in secret.variables.items()}
    return variables


def _variables_of(
    container: Mapping[str, Any], namespace: str, cluster: KubernetesFacts
) -> dict[str, str]:
    """A container's environment, with what it takes from ConfigMaps and Secrets."""
    variables: dict[str, str] = {}
    for source in container.get("envFrom", []):
        if reference := source.get("configMapRef"):
            held = cluster.namespaced(namespace, "configmaps", reference["name"]) or {}
            variables |= held.get("data", {})
        elif reference := source.get("secretRef"):
            held = cluster.namespaced(namespace, "secrets", reference["name"]) or {}
            variables |= {key: value_of(held, key) for key in held.get("data", {})}
    for entry in container.get("env", []):
        reference = entry.get("valueFrom", {}).get("secretKeyRef")
        if reference:
            held = cluster.namespaced(namespace, "secrets", reference["name"]) or {}
            variables[entry["name"]] = value_of(held, reference["key"])
        elif "value" in entry:
            variables[entry["name"]] = entry["value"]
    return variables


def _service_name(host: str, own: str) -> tuple[str, str] | None:
    """Name and namespace where a host is a Service's, as pods of namespace `own` write it."""
    match host.split("."):
        case [name]:
            return name, own
        case [name, namespace] | [name, namespace, "svc", *_]:
            return name, namespace
    return None


def _service(cluster: KubernetesFacts, address: str, own: str) -> dict[str, Any] | None:
    named = _service_name(address.rpartition(":")[0], own)
    return cluster.namespaced(named[1], "services", named[0]) if named else None


def _place(cluster: KubernetesFacts, address: str, own: str) -> Place:
    """Where a connection ends: a policy sees a pod's port, not that of the Service before it."""
    host, _, text = address.rpartition(":")
    port = int(text) if text.isdigit() else 80
    service = _service(cluster, address, own)
    if service is None:
        return Place(frozenset({port}), addresses=[host] if _is_ip_address(host) else [])
    entry: dict[str, Any] = next((p for p in service["spec"]["ports"] if p["port"] == port), {})
    behind = entry.get("targetPort", port)
    numbers = frozenset({behind if isinstance(behind, int) else port})
    selector = service["spec"].get("selector")
    if not selector:  # as of the API server, which is no pod
        return Place(numbers | {port})
    namespace = service["metadata"]["namespace"]
    pods = _pods(cluster, namespace, selector)
    listening = [
        container_port
        for pod in pods
        for container in pod["spec"]["containers"]
        for container_port in container.get("ports", [])
        if behind in (container_port["containerPort"], container_port.get("name"))
    ]
    labels = (cluster.get(f"/api/v1/namespaces/{namespace}") or {}).get("metadata", {})
    return Place(
        frozenset(p["containerPort"] for p in listening) or numbers,
        frozenset(p["name"] for p in listening if "name" in p),
        namespace,
        {"kubernetes.io/metadata.name": namespace} | labels.get("labels", {}),
        [pod["metadata"].get("labels", {}) for pod in pods] or [selector],
        [pod["status"]["podIP"] for pod in pods if pod.get("status", {}).get("podIP")],
    )


def _pods(
    cluster: KubernetesFacts, namespace: str, selector: Mapping[str, str]
) -> list[dict[str, Any]]:
    wanted = ",".join(f"{label}={value}" for label, value in sorted(selector.items()))
    found = cluster.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={wanted}")
    return (found or {}).get("items", [])


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


CHECKS = (egress_of_runs, egress_of_serving)
