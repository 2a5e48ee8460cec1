"""The connection to a Kubeflow Pipelines endpoint: who we are, retries, and readable errors."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import kfp_server_api
import urllib3
from kfp_server_api.exceptions import ApiException
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from sasrec.errors import first_problem

T = TypeVar("T")

AUDIENCE = "pipelines.kubeflow.org"
"""Whom a service account's token must be meant for, where the API server itself checks it."""
DASHBOARD_PATH = "/pipeline"
"""Where Kubeflow's gateway has the API; it reads the token itself, whatever its audience."""
SINGLE_USER_ACCOUNT, PROFILE_ACCOUNT = "pipeline-runner", "default-editor"
DEFAULT_ACCOUNTS = (SINGLE_USER_ACCOUNT, PROFILE_ACCOUNT)
"""What a run acts as that names no account, on an install without profiles and in a profile."""
ATTEMPTS = 5
RETRY_SECONDS = 1.0
"""The first wait before a request is repeated; it doubles each time."""
_CONNECT_AND_READ_SECONDS = (10, 60)
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_SIGNED_OUT = frozenset({301, 302, 303, 307, 401})


class ClusterError(RuntimeError):
    """The cluster refused or could not be asked. One line: what, why, and the next step."""


class Endpoint(BaseSettings):
    """Where and as whom; each field `x` is `KF_PIPELINES_X`, the prefix of KFP's own variables."""

    model_config = SettingsConfigDict(env_prefix="KF_PIPELINES_", frozen=True, extra="ignore")

    endpoint: str = Field(
        description="URL of the API: https://kubeflow.example.com/pipeline behind the dashboard, "
        "http://ml-pipeline.kubeflow:8888 within the cluster"
    )
    namespace: str = Field(default="", description="profile; empty for a single-user install")
    token: str = Field(default="", description="bearer token", repr=False)
    sa_token_path: Path | None = Field(
        default=None, description="file with a service account's token, read again for each request"
    )
    ca_file: Path | None = Field(default=None, description="certificate authority of the endpoint")
    service_account: str = Field(default="", description="Kubernetes account that runs act as")
    ui: str = Field(default="", description="URL of the UI, where it is not the endpoint's")
    server_version: str = Field(
        default="", description="such as 2.17.0, of a server that does not say it: a vendor's build"
    )

    @classmethod
    def from_environment(cls) -> "Endpoint":
        """Read `KF_PIPELINES_*`.

        Raises:
            ClusterError: no endpoint is named, or a token file is missing.
        """
        try:
            endpoint = cls()  # type: ignore[call-arg]
        except ValidationError as error:
            field, message = first_problem(error)
            variable = f"KF_PIPELINES_{field.replace('.', '_').upper()}"
            raise ClusterError(f"{variable}: {message}; see docs/production.md") from None
        if not endpoint.endpoint.startswith(("http://", "https://")):
            raise ClusterError(
                f"KF_PIPELINES_ENDPOINT: '{endpoint.endpoint}' is not an http(s) URL"
            )
        if endpoint.sa_token_path and not endpoint.sa_token_path.is_file():
            raise ClusterError(f"KF_PIPELINES_SA_TOKEN_PATH: no file {endpoint.sa_token_path}")
        return endpoint

    @property
    def behind_dashboard(self) -> bool:
        """Whether requests pass Kubeflow's gateway, which reads the token, or reach the API."""
        return self.endpoint.rstrip("/").endswith(DASHBOARD_PATH)

    def _whose(self) -> str:
        if self.behind_dashboard:
            return "of an issuer that the gateway's RequestAuthentication names"
        return f"kubectl create token ACCOUNT --audience {AUDIENCE}"

    def run_url(self, run_id: str) -> str:
        """The run's page."""
        return f"{(self.ui or self.endpoint).rstrip('/')}/#/runs/details/{run_id}"

    def client(self) -> kfp_server_api.ApiClient:
        """A client of the v2beta1 API. It never retries and follows no redirect: `call` decides."""
        configuration = kfp_server_api.Configuration(host=self.endpoint.rstrip("/"))
        configuration.retries = urllib3.Retry(total=False, redirect=False)
        if self.ca_file:
            configuration.ssl_ca_cert = str(self.ca_file)
        if self.token or self.sa_token_path:
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.refresh_api_key_hook = self._refresh_token
            self._refresh_token(configuration)  # a key that is absent is never refreshed
        return kfp_server_api.ApiClient(configuration)

    def _refresh_token(self, configuration: kfp_server_api.Configuration) -> None:
        # The kubelet rotates a projected token within the hour.
        token = self.sa_token_path.read_text().strip() if self.sa_token_path else self.token
        configuration.api_key["authorization"] = token

    def call(self, what: str, request: Callable[..., T], *args: object, **kwargs: object) -> T:
        """Send one request that is safe to repeat, again with back-off while the server is away.

        Args:
            what: the request in words, for the error.

        Raises:
            ClusterError: it was refused, or the server stayed away.
        """
        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            wait=wait_exponential_jitter(RETRY_SECONDS, max=30, jitter=RETRY_SECONDS),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        try:
            return retrying(request, *args, _request_timeout=_CONNECT_AND_READ_SECONDS, **kwargs)
        except ApiException as error:
            raise ClusterError(f"{what}: {self._explain(error)}") from error
        except urllib3.exceptions.HTTPError as error:
            reason = str(getattr(error, "reason", error)).split(">: ")[-1]
            raise ClusterError(
                f"{what}: {self.endpoint} did not answer in {ATTEMPTS} attempts ({reason}); "
                "check KF_PIPELINES_ENDPOINT and the network, then type the same command"
            ) from None

    def _explain(self, error: ApiException) -> str:
        said = _message(error)
        namespace = self.namespace or "(none)"
        if error.status in _SIGNED_OUT:
            return (
                f"{error.status}, the token is missing or has expired or is for another; set "
                f"KF_PIPELINES_TOKEN or KF_PIPELINES_SA_TOKEN_PATH to a fresh one ({self._whose()})"
            )
        if error.status == 403:
            return (
                f"403, no permission in namespace {namespace}; check KF_PIPELINES_NAMESPACE, or "
                f"ask for the role kubeflow-edit there ({said})"
            )
        if error.status == 404:
            return (
                f"404, not found; check the name, KF_PIPELINES_NAMESPACE={namespace} and the "
                f"endpoint, which ends in {DASHBOARD_PATH} behind Kubeflow's dashboard ({said})"
            )
        if error.status in _UNAVAILABLE:
            return (
                f"{error.status} in {ATTEMPTS} attempts; the server is down or overloaded, "
                "type the same command later"
            )
        return f"{error.status} ({said})"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, ApiException):
        return error.status in _UNAVAILABLE
    return isinstance(error, urllib3.exceptions.HTTPError)


def _message(error: ApiException) -> str:
    """What the server said, on one line."""
    try:
        body = json.loads(error.body)
        text = body.get("message") or body.get("error") or error.reason
    except (TypeError, ValueError, AttributeError):
        text = error.reason
    return " ".join(str(text).split())[:300]
