"""The site's volume, and the Secrets that pods name."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from components.runners.doctor.finding import Finding, bad, ok, unseen
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target

_STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_API_KEYS = "sasrec-api-keys"
_SERVING_KEYS = ("api_keys.json", "metrics")
"""What serving reads, and what Prometheus presents to it."""


def claim(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """All pods of a run, and of serving, write and read the same volume."""
    name = target.platform.volume_claim
    found = cluster.namespaced(target.namespace, "persistentvolumeclaims", name)
    if found is None:
        yield bad(
            "volume claim",
            f"no PersistentVolumeClaim {name} in {target.namespace}",
            "kubectl apply -k deploy/kubernetes/overlays/production",
        )
        return
    modes = found["spec"].get("accessModes", [])
    if "ReadWriteMany" not in modes:
        yield bad(
            "volume claim",
            f"{name} is {', '.join(modes)}: pods on two nodes cannot both have it",
            "make it anew as ReadWriteMany, of a storage class that can (NFS, CephFS, EFS, ...)",
        )
        return
    phase = found.get("status", {}).get("phase", "Pending")
    if phase == "Bound":
        yield ok("volume claim", f"{name}: bound, ReadWriteMany")
    else:
        yield from _unbound(cluster, name, found, phase)


def _unbound(
    cluster: KubernetesFacts, name: str, found: dict[str, Any], phase: str
) -> Iterator[Finding]:
    wanted = found["spec"].get("storageClassName")
    classes = (cluster.get(_STORAGE_CLASSES) or {}).get("items", [])
    chosen = [c for c in classes if c["metadata"]["name"] == wanted or (not wanted and _default(c))]
    if not chosen:
        what = f"storage class {wanted}" if wanted else "default storage class"
        yield bad(
            "volume claim",
            f"{name} is {phase} and there is no {what}",
            f"storageClassName in the overlay, one of: {_names(classes)}",
        )
    elif phase == "Pending" and chosen[0].get("volumeBindingMode") == "WaitForFirstConsumer":
        yield ok("volume claim", f"{name}: is bound when the first pod wants it")
    else:
        yield bad("volume claim", f"{name} is {phase}", f"kubectl describe pvc {name}")


def _default(storage_class: dict[str, Any]) -> bool:
    return storage_class["metadata"].get("annotations", {}).get(_IS_DEFAULT) == "true"


def _names(objects: list[dict[str, Any]]) -> str:
    return ", ".join(o["metadata"]["name"] for o in objects) or "there is none"


def secret_keys(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """A pod whose Secret lacks a key never starts."""
    for name, key in sorted(target.secret_keys):
        yield from _has_key(cluster, target.namespace, name, key)
    if (serving := target.platform.serving_namespace) is not None:
        for key in _SERVING_KEYS:
            yield from _has_key(cluster, serving, _API_KEYS, key)


def _has_key(cluster: KubernetesFacts, namespace: str, name: str, key: str) -> Iterator[Finding]:
    check = f"Secret {name}"
    try:
        found = cluster.namespaced(namespace, "secrets", name)
    except NotAllowed as error:
        yield unseen(check, f"not to be seen ({error})")
        return
    fix = f"kubectl -n {namespace} create secret generic {name} --from-literal={key}=..."
    if found is None:
        yield bad(check, f"is not in {namespace}", fix)
    elif not base64.b64decode(found.get("data", {}).get(key, "")):
        yield bad(check, f"has no {key} in {namespace}", fix)
    else:
        yield ok(check, f"has {key} in {namespace}")


def pull_secrets(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """What nodes pull the image with must name the image's registry."""
    images = {container["image"] for container in target.containers.values()}
    registry = sorted(images)[0].partition("/")[0]
    for name in target.platform.image_pull_secrets:
        check = f"pull secret {name}"
        found = cluster.namespaced(target.namespace, "secrets", name)
        fix = f"kubectl -n {target.namespace} create secret docker-registry {name} ..."
        if found is None:
            yield bad(check, f"is not in {target.namespace}", fix)
        elif registry not in _registries(found):
            yield bad(check, f"knows {', '.join(_registries(found))}, not {registry}", fix)
        else:
            yield ok(check, f"for {registry}")


def _registries(secret: dict[str, Any]) -> list[str]:
    text = base64.b64decode(secret.get("data", {}).get(".dockerconfigjson", "")) or b"{}"
    names = json.loads(text).get("auths", {})
    return [n.removeprefix("https://").removeprefix("http://").partition("/")[0] for n in names]


def image_on_nodes(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """An image that a node has, could be pulled. Whether another can be is seen by the probe."""
    nodes = (cluster.get("/api/v1/nodes") or {}).get("items", [])
    for wanted in sorted({container["image"] for container in target.containers.values()}):
        having = [
            node
            for node in nodes
            if any(wanted in image["names"] for image in node["status"].get("images", []))
        ]
        if having:
            yield ok("image on nodes", f"{len(having)} of {len(nodes)} have it")
        else:
            yield unseen("image on nodes", "no node has pulled it yet", "doctor --probe pulls it")


def devices(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """A stage that asks for a device no node has waits for ever."""
    nodes = (cluster.get("/api/v1/nodes") or {}).get("items", [])
    for stage in sorted(target.platform.stages):
        wanted = target.platform.resources(stage)
        if not wanted.accelerators and not wanted.node_selector:
            continue
        fitting = [node for node in nodes if _fits(node, wanted)]
        what = f"{wanted.accelerators} {wanted.accelerator} and labels {wanted.node_selector}"
        if fitting:
            yield ok(f"nodes for {stage}", f"{len(fitting)} of {len(nodes)} have {what}")
        else:
            yield bad(
                f"nodes for {stage}",
                f"none has {what}",
                "kubectl get nodes --show-labels, then correct the platform settings",
            )


def _fits(node: dict[str, Any], wanted: Any) -> bool:
    labels = node["metadata"].get("labels", {})
    offered = int(node["status"].get("allocatable", {}).get(wanted.accelerator, "0"))
    return wanted.node_selector.items() <= labels.items() and offered >= wanted.accelerators


CHECKS = (claim, secret_keys, pull_secrets, image_on_nodes, devices)
