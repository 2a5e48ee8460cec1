"""Whether some node may take each pod of a run, and the namespace's quota too."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from components.runners.doctor.finding import Finding, bad, ok, unseen
from components.runners.doctor.kubernetes_facts import KubernetesFacts
from components.runners.doctor.target import Target
from components.runners.platform import Resources, Toleration
from components.support.stage import STAGES

_NODES = "/api/v1/nodes"


def image_on_nodes(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """An image that a node has, could be pulled. Whether another can be is seen by the probe."""
    nodes = (cluster.get(_NODES) or {}).get("items", [])
    for wanted in sorted({container["image"] for container in target.containers.values()}):
        having = [
            node
            for node in nodes
            if any(wanted in image["names"] for image in node["status"].get("images", []))
        ]
        if having:
            yield ok("image on nodes", f"{len(having)} of {len(nodes)} have it")
        else:
            said, fix = "no node has pulled it yet", "doctor --probe pulls it"
            yield unseen("image on nodes", said, fix, in_probe=True)


def room(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """A stage that asks for what no node has waits for ever. What other pods use is not counted."""
    nodes = (cluster.get(_NODES) or {}).get("items", [])
    for stages, wanted in _by_resources(target):
        reasons = [_why_not(node, wanted) for node in nodes]
        pods = sum(
            _how_many(node, wanted)
            for node, reason in zip(nodes, reasons, strict=True)
            if not reason
        )
        asked = ", ".join(f"{amount} {name}" for name, amount in _requests(wanted).items())
        if pods >= wanted.nodes:
            fitting = reasons.count("")
            yield ok(f"nodes for {stages}", f"{fitting} of {len(nodes)} may take it ({asked})")
        else:
            why = ", ".join(
                f"{reasons.count(reason)} {reason}" for reason in sorted({*reasons} - {""})
            )
            said = f"{wanted.nodes} pods of {asked}: room for {pods} on {len(nodes)} nodes"
            yield bad(
                f"nodes for {stages}",
                f"{said} ({why})" if why else said,
                "kubectl describe nodes, then correct the platform settings, or add a node",
            )


def _by_resources(target: Target) -> Iterator[tuple[str, Resources]]:
    others = [name for name in STAGES if target.platform.resources(name) == _defaults(target)]
    if others:
        yield "the other stages" if len(others) < len(STAGES) else "all stages", _defaults(target)
    for name in STAGES:
        if name not in others:
            yield name, target.platform.resources(name)


def _defaults(target: Target) -> Resources:
    return target.platform.defaults


def _requests(wanted: Resources) -> dict[str, str]:
    devices = {wanted.accelerator: str(wanted.accelerators)} if wanted.accelerators else {}
    return {"cpu": wanted.cpu, "memory": wanted.memory, **devices}


def _why_not(node: dict[str, Any], wanted: Resources) -> str:
    """Why this node takes no pod of these resources; empty where it does."""
    labels, spec = node["metadata"].get("labels", {}), node.get("spec", {})
    if spec.get("unschedulable"):
        return "cordoned"
    ready = [c for c in node["status"].get("conditions", []) if c["type"] == "Ready"]
    if ready and ready[0]["status"] != "True":
        return "not ready"
    for label, value in wanted.node_selector.items():
        if labels.get(label) != value:
            return f"without {label}={value}"
    for taint in spec.get("taints", []):
        if taint["effect"] != "PreferNoSchedule" and not any(
            _tolerates(toleration, taint) for toleration in wanted.tolerations
        ):
            return f"with the taint {taint['key']}"
    return "" if _how_many(node, wanted) else "too small"


def _tolerates(toleration: Toleration, taint: dict[str, Any]) -> bool:
    """https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration"""
    return (
        toleration.key == taint["key"]
        and toleration.effect in (None, taint["effect"])
        and (toleration.operator == "Exists" or toleration.value == taint.get("value", ""))
    )


def _how_many(node: dict[str, Any], wanted: Resources) -> int:
    """How many pods of these resources an empty node holds."""
    offered = node["status"].get("allocatable", {})
    return min(
        int(parse_quantity(offered.get(name, "0")) / parse_quantity(amount))
        for name, amount in _requests(wanted).items()
        if parse_quantity(amount)
    )


def quota(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """A pod beyond the namespace's quota is never made."""
    found = (cluster.namespaced(target.namespace, "resourcequotas") or {}).get("items", [])
    # Those with a scope count some pods only; which ones, Kubernetes decides.
    plain = [q for q in found if not {"scopes", "scopeSelector"} & q.get("spec", {}).keys()]
    wrong = 0
    for each in plain:
        for said in _beyond(target, cluster, each):
            wrong += 1
            name = each["metadata"]["name"]
            fix = f"kubectl -n {target.namespace} describe quota {name}; raise it, or wait"
            yield bad("quota", f"{name}: {said}", fix)
    if not wrong:
        yield ok("quota", f"{len(plain)} let a run's largest stage in" if plain else "none")


def _beyond(target: Target, cluster: KubernetesFacts, quota: dict[str, Any]) -> Iterator[str]:
    status = quota.get("status", {})
    hard, used = status.get("hard") or quota["spec"].get("hard", {}), status.get("used", {})
    for name, amount in _largest(target).items():
        if name not in hard:
            continue
        limit, now = parse_quantity(hard[name]), parse_quantity(used.get(name, "0"))
        if amount > limit:
            yield f"{name} is {hard[name]}, and one stage asks for more"
        elif amount > limit - now:
            yield f"{name} is {hard[name]}, {used[name]} of it in use, and one stage asks for more"
    if "limits.cpu" in hard and not _cpu_limit_by_default(target, cluster):
        yield "limits.cpu wants a limit of every pod, and runs set none; a LimitRange gives one"


def _largest(target: Target) -> dict[str, Decimal]:
    """The most that one stage asks for, as a quota names it."""
    most: dict[str, Decimal] = {"pods": Decimal(1)}
    for stage in STAGES:
        wanted = target.platform.resources(stage)
        amounts = {n: parse_quantity(a) * wanted.nodes for n, a in _requests(wanted).items()}
        named = {f"requests.{name}": amount for name, amount in amounts.items()}
        named |= {"cpu": amounts["cpu"], "memory": amounts["memory"]}
        named |= {"limits.memory": amounts["memory"], "pods": Decimal(wanted.nodes)}
        most = {name: max(most.get(name, Decimal(0)), a) for name, a in (most | named).items()}
    return most


def _cpu_limit_by_default(target: Target, cluster: KubernetesFacts) -> bool:
    ranges = (cluster.namespaced(target.namespace, "limitranges") or {}).get("items", [])
    return any("cpu" in limit.get("default", {}) for r in ranges for limit in r["spec"]["limits"])


CHECKS = (image_on_nodes, room, quota)
