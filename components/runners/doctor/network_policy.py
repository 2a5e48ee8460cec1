"""What a NetworkPolicy lets out: https://kubernetes.io/docs/concepts/services-networking."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a TCP connection ends.

    Attributes:
        ports: numbers that it may have; any of them let out is enough.
        names: what the pods there call their port.
        namespace: of the pods; None for what is no pod of this cluster, or not known to be one.
        namespace_labels, pod_labels: of the namespace, and of each pod.
        addresses: of the pods, or of what is none.
    """

    ports: frozenset[int]
    names: frozenset[str] = frozenset()
    namespace: str | None = None
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    pod_labels: Sequence[Mapping[str, str]] = ()
    addresses: Sequence[str] = ()


def lets_out(policy: Mapping[str, Any], place: Place, namespace: str) -> bool:
    """Whether a policy of `namespace` lets its pods out to this place.

    A host name outside the cluster may be any address: an `ipBlock` is then taken to hold it.
    """
    return any(
        _port_is_allowed(rule.get("ports"), place) and _peer_is_allowed(rule, place, namespace)
        for rule in policy["spec"].get("egress", [])
    )


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector selects what has these labels; an empty one selects all."""
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _holds(expression, labels) for expression in selector.get("matchExpressions") or []
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, among = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "In":
            return value in among
        case _:  # NotIn
            return value not in among


def _port_is_allowed(allowed: Sequence[Mapping[str, Any]] | None, place: Place) -> bool:
    if not allowed:
        return True
    for entry in allowed:
        if entry.get("protocol", "TCP") != "TCP":
            continue
        first = entry.get("port")
        if first is None or first in place.names:
            return True
        if isinstance(first, int):
            last = entry.get("endPort", first)
            if any(first <= port <= last for port in place.ports):
                return True
    return False


def _peer_is_allowed(rule: Mapping[str, Any], place: Place, namespace: str) -> bool:
    peers = rule.get("to")
    return not peers or any(_is_peer(peer, place, namespace) for peer in peers)


def _is_peer(peer: Mapping[str, Any], place: Place, namespace: str) -> bool:
    if block := peer.get("ipBlock"):
        unknown = place.namespace is None and not place.addresses
        return unknown or any(_within(address, block) for address in place.addresses)
    if place.namespace is None:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"] or {}, place.namespace_labels):
            return False
    elif place.namespace != namespace:
        return False
    pods = peer.get("podSelector") or {}
    return any(selects(pods, labels) for labels in place.pod_labels)


def _within(address: str, block: Mapping[str, Any]) -> bool:
    inside = ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"])
    return inside and not any(
        ipaddress.ip_address(address) in ipaddress.ip_network(cidr)
        for cidr in block.get("except", [])
    )
