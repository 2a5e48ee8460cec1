"""Kubeflow Pipelines: reachable, recent enough, and ours to use."""

import base64
import binascii
import json
import time
from collections.abc import Iterator

from components.runners.cluster import Cluster
from components.runners.doctor.finding import Finding, bad, not_needed, ok
from components.runners.doctor.target import Target
from components.runners.endpoint import AUDIENCE, ClusterError

_HOW_TO_REACH = (
    "set KF_PIPELINES_ENDPOINT (behind Kubeflow's dashboard it ends in /pipeline) and a token; see "
    "docs/production.md"
)


def reachable(target: Target) -> Iterator[Finding]:
    """Its version too: an older server drops the platform document without a word."""
    kubeflow = _kubeflow(target)
    try:
        said = kubeflow.server_version()
        kubeflow.require_version(target.package)
    except ClusterError as error:
        yield bad("Kubeflow Pipelines", str(error), _HOW_TO_REACH)
    else:
        yield ok("Kubeflow Pipelines", f"{said} at {kubeflow.endpoint.endpoint}")


def token(target: Target) -> Iterator[Finding]:
    """A service account's token is good for its audience alone, and only for a while."""
    endpoint = _kubeflow(target).endpoint
    text = endpoint.sa_token_path.read_text() if endpoint.sa_token_path else endpoint.token
    claims = _claims(text.strip())
    if claims is None:
        yield not_needed("token", "is none of Kubernetes" if text else "none is set")
        return
    fix = f"kubectl create token ACCOUNT --audience {AUDIENCE} --duration 1h"
    if claims.get("exp", time.time() + 1) < time.time():
        yield bad("token", "it has expired", fix)
    elif endpoint.behind_dashboard:
        yield ok("token", "of a service account; the gateway reads it, whatever its audience")
    elif AUDIENCE not in _audiences(claims):
        audiences = ", ".join(_audiences(claims)) or "nobody"
        yield bad("token", f"it is meant for {audiences}, not for {AUDIENCE}", fix)
    else:
        yield ok("token", f"for {AUDIENCE}")


def permitted(target: Target) -> Iterator[Finding]:
    """We may read runs in the namespace; starting them is asked of Kubernetes."""
    try:
        _kubeflow(target).recent(1)
    except ClusterError as error:
        yield bad("namespace of runs", str(error), "check KF_PIPELINES_NAMESPACE and the token")
    else:
        yield ok("namespace of runs", target.namespace)


def _kubeflow(target: Target) -> Cluster:
    if target.kubeflow is None:
        raise ValueError("no endpoint is examined")
    return target.kubeflow


def _audiences(claims: dict) -> list[str]:
    audiences = claims.get("aud", [])
    return [audiences] if isinstance(audiences, str) else audiences


def _claims(text: str) -> dict | None:
    """What a service account's token says of itself; None for any other token."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if "kubernetes.io" in claims else None


CHECKS = (reachable, token, permitted)
