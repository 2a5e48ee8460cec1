"""The Secrets that pods name: whether they are there, and fit each other."""

import base64
import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from components.runners.doctor.finding import Finding, bad, could_not_look, ok
from components.runners.doctor.kubernetes_facts import KubernetesFacts, NotAllowed
from components.runners.doctor.target import Target
from serving.create_keys import KEY_FILE, METRICS
from serving.security import ApiKeys, Role

_API_KEYS = "sasrec-api-keys"
_ARTIFACT_SECRET, _LAUNCHER = "mlpipeline-minio-artifact", "kfp-launcher"
_SERVING_KEYS = (KEY_FILE, METRICS)
"""What serving reads, and what Prometheus presents to it."""


def secret_keys(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """A pod whose Secret lacks a key never starts."""
    smoke_test = target.platform.serving_key
    for name, key in sorted(target.secret_keys):
        only_deploy = smoke_test is not None and (name, key) == (smoke_test.name, smoke_test.key)
        yield from _has_key(cluster, target.namespace, name, key, in_probe=not only_deploy)
    if (serving := target.platform.serving_namespace) is not None:
        for key in _SERVING_KEYS:
            yield from _has_key(cluster, serving, _API_KEYS, key)


def _has_key(
    cluster: KubernetesFacts, namespace: str, name: str, key: str, *, in_probe: bool = False
) -> Iterator[Finding]:
    check = f"Secret {name}"
    try:
        found = cluster.namespaced(namespace, "secrets", name)
    except NotAllowed as error:
        yield could_not_look(check, error, in_probe=in_probe)
        return
    fix = f"kubectl -n {namespace} create secret generic {name} --from-literal={key}=..."
    if found is None:
        yield bad(check, f"is not in {namespace}", fix)
    elif not value_of(found, key):
        yield bad(check, f"has no {key} in {namespace}", fix)
    else:
        yield ok(check, f"has {key} in {namespace}")


def value_of(secret: dict[str, Any] | None, key: str) -> str:
    """The value of a key; empty where it or the Secret is not there."""
    data = (secret or {}).get("data") or {}
    return base64.b64decode(data.get(key, "")).decode(errors="replace")


def keys_that_serving_knows(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """What the smoke test and Prometheus present must be among the keys that serving reads."""
    namespace, smoke_test = target.platform.serving_namespace, target.platform.serving_key
    if namespace is None or smoke_test is None:
        return
    of_serving = cluster.namespaced(namespace, "secrets", _API_KEYS)
    of_runs = cluster.namespaced(target.namespace, "secrets", smoke_test.name)
    text = value_of(of_serving, KEY_FILE)
    presented: list[tuple[str, Role]] = [
        (value_of(of_runs, smoke_test.key), "recommend"),
        (value_of(of_serving, METRICS), "metrics"),
    ]
    if not text or not all(key for key, _ in presented):
        return  # said of the Secret already
    fix = (
        "`python -m serving.create_keys`, both Secrets from its files, and "
        f"kubectl -n {namespace} rollout restart deployment/sasrec-serving"
    )
    try:
        known = ApiKeys.model_validate_json(text)
    except ValidationError:
        yield bad("keys of serving", f"{KEY_FILE} in {namespace} is not what serving reads", fix)
        return
    for key, role in presented:
        whose = smoke_test.key if role == "recommend" else METRICS
        if known.allow(key.encode(), role):
            yield ok("keys of serving", f"{whose} opens what it is for")
        else:
            said = f"the key {whose} is none of the `{role}` keys in {KEY_FILE} in {namespace}"
            yield bad("keys of serving", said, fix)


def artifact_store(target: Target, cluster: KubernetesFacts) -> Iterator[Finding]:
    """Kubeflow's part of each pod stores artifacts with this Secret, unless it is told otherwise
    (upstream backend/src/v2/config/env.go).
    """
    if target.platform.artifact_root is not None:
        return
    if cluster.namespaced(target.namespace, "secrets", _ARTIFACT_SECRET) is not None:
        yield ok("artifact store", f"{_ARTIFACT_SECRET} is in {target.namespace}")
    elif cluster.namespaced(target.namespace, "configmaps", _LAUNCHER) is not None:
        yield ok("artifact store", f"as the ConfigMap {_LAUNCHER} says")
    else:
        yield bad(
            "artifact store",
            f"no Secret {_ARTIFACT_SECRET} in {target.namespace}: pods of runs cannot store what "
            "they make",
            "make the namespace as a profile, which brings it, or say where artifacts go in the "
            f"ConfigMap {_LAUNCHER}",
        )


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
    names = json.loads(value_of(secret, ".dockerconfigjson") or "{}").get("auths", {})
    return [n.removeprefix("https://").removeprefix("http://").partition("/")[0] for n in names]


CHECKS = (artifact_store, secret_keys, keys_that_serving_knows, pull_secrets)
