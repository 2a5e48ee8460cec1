"""Whom a NetworkPolicy lets out, by Kubernetes' rules for `to` and `ports`."""

import pytest

from components.runners.doctor.network_policy import Place, lets_out, selects

REDIS = Place(
    ports=frozenset({6379}),
    names=frozenset({"redis"}),
    namespace="data",
    namespace_labels={"kubernetes.io/metadata.name": "data", "team": "b"},
    pod_labels=[{"app": "redis"}],
    addresses=["10.1.2.3"],
)
ELSEWHERE = Place(ports=frozenset({443}))


def policy(**rule):
    return {"spec": {"egress": [rule]}}


@pytest.mark.parametrize(
    ("ports", "allowed"),
    [
        (None, True),
        ([], True),
        ([{"port": 6379}], True),
        ([{"port": 6379, "protocol": "UDP"}], False),
        ([{"port": 6000, "endPort": 7000}], True),
        ([{"port": 6000, "endPort": 6378}], False),
        ([{"port": "redis"}], True),
        ([{"port": "http"}], False),
        ([{"protocol": "TCP"}], True),
        ([{"port": 53}, {"port": 6379}], True),
    ],
)
def test_ports_by_number_range_name_and_protocol(ports, allowed):
    assert lets_out(policy(ports=ports), REDIS, "team-a") is allowed


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ({"namespaceSelector": {}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "b"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "a"}}}, False),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "redis"}}}, True),
        ({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "other"}}}, False),
        ({"podSelector": {}}, False),  # of the policy's own namespace
        ({"ipBlock": {"cidr": "10.1.0.0/16"}}, True),
        ({"ipBlock": {"cidr": "10.1.0.0/16", "except": ["10.1.2.0/24"]}}, False),
        ({"ipBlock": {"cidr": "192.168.0.0/16"}}, False),
    ],
)
def test_pods_by_namespace_label_and_address(peer, allowed):
    assert lets_out(policy(to=[peer]), REDIS, "team-a") is allowed


def test_a_rule_for_its_own_namespace_and_hosts_outside():
    assert lets_out(policy(to=[{"podSelector": {}}]), REDIS, "data")
    assert lets_out(policy(to=[{"ipBlock": {"cidr": "0.0.0.0/0"}}]), ELSEWHERE, "team-a")
    assert not lets_out(policy(to=[{"namespaceSelector": {}}]), ELSEWHERE, "team-a")
    address = Place(ports=frozenset({443}), addresses=["10.9.9.9"])
    assert not lets_out(policy(to=[{"ipBlock": {"cidr": "10.1.0.0/16"}}]), address, "team-a")
    assert not lets_out({"spec": {}}, REDIS, "data")


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ({"key": "app", "operator": "In", "values": ["redis"]}, True),
        ({"key": "app", "operator": "NotIn", "values": ["redis"]}, False),
        ({"key": "tier", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "app", "operator": "Exists"}, True),
        ({"key": "app", "operator": "DoesNotExist"}, False),
    ],
)
def test_expressions_of_a_selector(expression, selected):
    assert selects({"matchExpressions": [expression]}, {"app": "redis"}) is selected
