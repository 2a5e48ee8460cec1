"""The ways to the API of a multi-user install, as their filters rule."""

import base64
import json
import time
from typing import Any
from urllib.parse import urlsplit

from tests.components.kfp.api import KfpServer

AUDIENCE = "pipelines.kubeflow.org"


def service_account_token(*audiences: str, expires_in: float = 3600) -> str:
    """A token as `kubectl create token` prints it, without a signature that anybody checks."""
    claims = {
        "iss": "https://kubernetes.default.svc.cluster.local",
        "sub": "system:serviceaccount:team-a:default-editor",
        "aud": list(audiences),
        "exp": time.time() + expires_in,
        "kubernetes.io": {"namespace": "team-a"},
    }
    parts = [{"alg": "RS256"}, claims, {}]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in parts]
    return ".".join(part.rstrip("=") for part in encoded)


class InCluster:
    """`http://ml-pipeline.kubeflow:8888`: the API server reviews the token itself.

    pipelines/backend/src/apiserver/auth/authenticator_token_review.go: it must be meant for
    `pipelines.kubeflow.org`, which is not what a pod's default token says.
    """

    def __init__(self, server: KfpServer) -> None:
        self.server = server

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request."""
        if urlsplit(url).path.endswith("/healthz"):
            return self.server.answer(method, url, headers, body)
        claims = _claims(headers)
        if claims is None or AUDIENCE not in claims["aud"] or claims["exp"] < time.time():
            return 401, {"message": f"Failed to find all of '[{AUDIENCE}]' in audience"}
        return self.server.answer(method, url, headers, body)


class Dashboard:
    """`https://HOST/pipeline`: oauth2-proxy and Istio's gateway before it.

    kubeflow/manifests common/oauth2-proxy: `api_routes` answers 401 without a token instead of a
    login page; components/istio-m2m/requestauthentication.yaml reads tokens of the issuers that it
    names, whatever their audience. pipelines/manifests/kustomize/base/installs/multi-user/
    virtual-service.yaml: the API is below /pipeline; other paths are the dashboard's pages. There
    the UI's server hands requests on, except for healthz, which it answers itself, with
    other names: pipelines/frontend/server/handlers/healthz.ts.
    """

    def __init__(self, server: KfpServer, *issuers: str) -> None:
        self.server, self.issuers = server, issuers

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON of a request; a page is a JSON text here."""
        claims = _claims(headers)
        if claims is None:
            return 401, "<html>sign in</html>"
        if claims["iss"] not in self.issuers:
            return 401, "Jwt issuer is not configured"
        if not urlsplit(url).path.startswith("/pipeline/apis/"):
            return 200, "<html>Kubeflow Central Dashboard</html>"
        status, answer = self.server.answer(method, url.removeprefix("/pipeline"), headers, body)
        return status, _as_the_ui_says(answer) if url.endswith("/healthz") else answer


def _as_the_ui_says(health: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiServerReady": True,
        "apiServerTagName": health["tag_name"],
        "apiServerMultiUser": health["multi_user"],
        "frontendTagName": health["tag_name"],
    }


def _claims(headers: Any) -> dict[str, Any] | None:
    token = (headers.get("authorization") or "").removeprefix("Bearer ")
    if token.count(".") != 2:
        return None
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
