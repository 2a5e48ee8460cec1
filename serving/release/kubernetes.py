"""Asking a Kubernetes API server: as whom, and again with back-off while it is away."""

from collections.abc import Callable
from typing import Any, TypeVar

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

T = TypeVar("T")

ATTEMPTS = 5
ApiFailure = (ApiException, urllib3.exceptions.HTTPError)
"""What `call` raises: the server refused, or stayed away."""
_CONNECT_AND_READ_SECONDS = (5, 30)
_AWAY = frozenset({429, 500, 502, 503, 504})
_BROKEN = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "InvalidImageName",
        "CreateContainerConfigError",
        "CrashLoopBackOff",
    }
)


def connect() -> client.ApiClient:
    """The API server, as this pod's service account or as the current kubeconfig context.

    Raises:
        ConfigException: there is no kubeconfig, or it is broken; one line.
    """
    try:
        config.load_incluster_config()
    except config.ConfigException:
        try:
            config.load_kube_config()
        except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
            said = " ".join(str(error).split())
            raise config.ConfigException(f"the kubeconfig is broken: {said}") from None
    return client.ApiClient()


def call(request: Callable[..., T], *args: Any, pause_seconds: float, **kwargs: Any) -> T:
    """Send a request that is safe to repeat, again while the server is away.

    Args:
        pause_seconds: before the first repetition; it doubles each time.

    Raises:
        ApiException: the server refused, or was not able to answer in any attempt.
        urllib3.exceptions.HTTPError: nobody answered.
    """
    retrying = Retrying(
        retry=retry_if_exception(_is_transient),
        wait=wait_exponential_jitter(pause_seconds, max=30, jitter=pause_seconds),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    return retrying(request, *args, _request_timeout=_CONNECT_AND_READ_SECONDS, **kwargs)


def broken_pod(pods: client.V1PodList, image: str | None = None) -> str:
    """Why a pod of this image (of any, if None) cannot start; empty where all can."""
    for pod in pods.items:
        for status in pod.status.container_statuses or []:
            waiting = status.state.waiting
            if image in (None, status.image) and waiting and waiting.reason in _BROKEN:
                said = " ".join((waiting.message or "").split())
                return f"pod {pod.metadata.name}: {waiting.reason} ({said})"
    return ""


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, ApiException):
        return error.status in _AWAY
    return isinstance(error, urllib3.exceptions.HTTPError)
