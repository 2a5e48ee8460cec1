"""The site's volume."""

from collections.abc import Iterator
from typing import Any

from components.runners.doctor.finding import Finding, bad, ok
from components.runners.doctor.kubernetes_facts import KubernetesFacts
from components.runners.doctor.target import Target

_STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"


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


CHECKS = (claim,)
