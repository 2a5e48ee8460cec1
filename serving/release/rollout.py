"""Moving serving on Kubernetes to new code: apply, wait, ask through the Service, or put it back.

A model needs no rollout: every pod polls the aliases and swaps by itself. What rolls out is the
image, whenever a promoted version was made by another image than the one that serves.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from kubernetes import client
from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.registry import Aliases, ModelStore, RegistryError, StaleAliases
from serving.release.kubernetes import ApiFailure, broken_pod, call

T = TypeVar("T")

FIELD_MANAGER = "sasrec-pipeline"
CONTAINER = "serving"


class RolloutError(RuntimeError):
    """Serving is as it was before. One line: what failed, and the next step."""


class RolloutSettings(BaseSettings):
    """Where serving runs; each field `x` is the variable `SASREC_ROLLOUT_X`."""

    model_config = SettingsConfigDict(env_prefix="SASREC_ROLLOUT_", frozen=True, extra="ignore")

    namespace: str = Field(default="", description="of serving; empty where no rollout is wanted")
    deployment: str = Field(default="sasrec-serving", description="the Deployment's name")
    image: str = Field(default="", description="what the pods should run")
    url: str = Field(
        default="", description="of the Service; by default the Deployment's name in its namespace"
    )
    api_key: str = Field(default="", description="with the role `recommend`", repr=False)
    timeout_seconds: float = Field(default=900, gt=0, description="until all pods are new")
    poll_seconds: float = Field(default=2, gt=0, description="between looks at the rollout")

    @model_validator(mode="after")
    def _serving_wants_a_key(self) -> "RolloutSettings":
        """Without one the smoke test gets 401, and a good rollout would be taken back."""
        if self.namespace and not self.api_key:
            raise RolloutError(
                "SASREC_ROLLOUT_NAMESPACE is set and SASREC_ROLLOUT_API_KEY is not; "
                "give `serving_key` in the platform settings"
            )
        return self

    @property
    def service_url(self) -> str:
        """Where to ask the Service."""
        return self.url or f"http://{self.deployment}.{self.namespace}"


def roll_out(
    settings: RolloutSettings, store: ModelStore, promoted: Aliases, api: client.ApiClient
) -> None:
    """Bring the image and the champion of `promoted` to every serving pod, or undo both.

    Repeating it after any failure is safe; an image that serves already is not rolled out again.

    Args:
        promoted: the aliases as promoting left them. They are taken back on failure, unless
            someone else has moved them since.

    Raises:
        RolloutError: it failed.
    """
    deployment = ServingDeployment(api, settings)
    replaced = None
    try:
        before = deployment.settled_image()
        if settings.image != before:
            deployment.apply_image(settings.image)
            replaced = before
            deployment.wait_until_rolled_out(settings.image)
        _wait_until_served(settings, str(promoted.champion))
    except RolloutError as error:
        undone = _take_back(store, promoted)
        if replaced is not None:
            undone += f", {_put_back(deployment, replaced)}"
        raise RolloutError(f"{error}; {undone}") from error


class ServingDeployment:
    """The Deployment that serves, through server-side apply of the one field we own: its image."""

    def __init__(self, api: client.ApiClient, settings: RolloutSettings) -> None:
        self.settings = settings
        self._api = api
        self._apps = client.AppsV1Api(api)
        self._pods = client.CoreV1Api(api)

    def settled_image(self) -> str:
        """The image that all pods run.

        Raises:
            RolloutError: another rollout is under way, or the Deployment cannot be read.
        """
        deployment = self._read()
        if not _is_rolled_out(deployment):
            raise RolloutError(
                f"deployment {self.settings.deployment}: another rollout is under way; wait for "
                "`kubectl rollout status`, or `kubectl rollout undo`, then deploy again"
            )
        return _image(deployment)

    def apply_image(self, image: str) -> None:
        """Make `image` the pods' image.

        Forced, because the image is ours to set whoever applied the manifest before.
        """
        name, namespace = self.settings.deployment, self.settings.namespace
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "template": {"spec": {"containers": [{"name": CONTAINER, "image": image}]}},
            },
        }
        self._call(
            self._api.call_api,
            "/apis/apps/v1/namespaces/{namespace}/deployments/{name}",
            "PATCH",
            path_params={"namespace": namespace, "name": name},
            query_params=[("fieldManager", FIELD_MANAGER), ("force", "true")],
            header_params={"Content-Type": "application/apply-patch+yaml"},
            body=body,
            auth_settings=["BearerToken"],
            response_type="V1Deployment",
        )

    def wait_until_rolled_out(self, image: str) -> None:
        """Return once every pod is new and ready.

        Raises:
            RolloutError: a pod cannot start, Kubernetes gave up, or the time is over.
        """
        deadline = time.monotonic() + self.settings.timeout_seconds
        while True:
            deployment = self._read()
            if _image(deployment) == image and _is_rolled_out(deployment):
                return
            if reason := _given_up(deployment) or self._broken_pod(deployment, image):
                raise RolloutError(f"image {image}: {reason}")
            if time.monotonic() > deadline:
                ready = deployment.status.ready_replicas or 0
                raise RolloutError(
                    f"image {image}: {ready} pods ready after {self.settings.timeout_seconds:.0f} s"
                )
            time.sleep(self.settings.poll_seconds)

    def _read(self) -> client.V1Deployment:
        return self._call(
            self._apps.read_namespaced_deployment,
            self.settings.deployment,
            self.settings.namespace,
        )

    def _broken_pod(self, deployment: client.V1Deployment, image: str) -> str:
        labels = deployment.spec.selector.match_labels
        pods = self._call(
            self._pods.list_namespaced_pod,
            self.settings.namespace,
            label_selector=",".join(f"{name}={value}" for name, value in labels.items()),
        )
        return broken_pod(pods, image)

    def _call(self, request: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        try:
            return call(request, *args, pause_seconds=self.settings.poll_seconds, **kwargs)
        except ApiFailure as error:
            raise RolloutError(self._explain(error)) from error

    def _explain(self, error: Exception) -> str:
        where = f"deployment {self.settings.deployment} in {self.settings.namespace}"
        status = getattr(error, "status", None)
        if status == 401:
            return f"{where}: 401, the token has expired; run as the account sasrec-pipeline"
        if status == 403:
            return (
                f"{where}: 403, no permission; bind the role sasrec-rollout of deploy/kubernetes "
                "to the account of the run"
            )
        if status == 404:
            return f"{where}: 404, not found; check SASREC_ROLLOUT_NAMESPACE and _DEPLOYMENT"
        return f"{where}: the API server answered {status or type(error).__name__}; deploy again"


def _image(deployment: client.V1Deployment) -> str:
    containers = {c.name: c.image for c in deployment.spec.template.spec.containers}
    return containers[CONTAINER]


def _is_rolled_out(deployment: client.V1Deployment) -> bool:
    """As `kubectl rollout status` decides it."""
    status, wanted = deployment.status, deployment.spec.replicas
    return (
        (status.observed_generation or 0) >= deployment.metadata.generation
        and (status.updated_replicas or 0) >= wanted
        and (status.replicas or 0) <= (status.updated_replicas or 0)
        and (status.available_replicas or 0) >= (status.updated_replicas or 0)
    )


def _given_up(deployment: client.V1Deployment) -> str:
    """Why Kubernetes gave up: a passed deadline, an exceeded quota."""
    if (deployment.status.observed_generation or 0) < deployment.metadata.generation:
        return ""  # what the conditions say is about the generation before
    for condition in deployment.status.conditions or []:
        stuck = condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded"
        refused = condition.type == "ReplicaFailure" and condition.status == "True"
        if stuck or refused:
            return f"{condition.reason} ({' '.join((condition.message or '').split())})"
    return ""


def _wait_until_served(settings: RolloutSettings, version: str) -> None:
    """Ask through the Service until the champion answers; pods poll the aliases every second or so.

    Raises:
        RolloutError: it never did.
    """
    deadline = time.monotonic() + min(settings.timeout_seconds, 60)
    headers = {"Authorization": f"Bearer {settings.api_key}"}
    with httpx.Client(
        base_url=settings.service_url, headers=headers, timeout=5, trust_env=False
    ) as service:
        while True:
            problem = _ask(service, version)
            if not problem:
                return
            if time.monotonic() > deadline:
                raise RolloutError(f"smoke test through {settings.service_url}: {problem}")
            time.sleep(settings.poll_seconds)


def _ask(service: httpx.Client, version: str) -> str:
    """What is wrong with one answer; empty when nothing is."""
    try:
        response = service.post("/v1/recommend", json={"user_id": "smoke-test", "k": 5})
    except httpx.HTTPError as error:
        return f"{type(error).__name__}"
    if response.status_code in (401, 403):
        return (
            f"status {response.status_code}, the key has not the role `recommend`; put the one "
            "of SASREC_ROLLOUT_API_KEY into sasrec-api-keys and restart serving"
        )
    if response.status_code != 200:
        return f"status {response.status_code}"
    answer = response.json()
    if answer["model_version"] != version:
        return f"version {answer['model_version']} answered, not {version}"
    if not answer["items"]:
        return "no items"
    return f"degraded: {answer['degraded']}" if answer.get("degraded") else ""


def _put_back(deployment: ServingDeployment, image: str) -> str:
    """Make `image` serve again; Kubernetes keeps its pods until the new ones are ready."""
    try:
        deployment.apply_image(image)
    except RolloutError as error:
        return f"image {image} is NOT back ({error}): kubectl rollout undo"
    return f"image {image} is back"


def _take_back(store: ModelStore, promoted: Aliases) -> str:
    """Make the champion before `promoted` serve again, unless the aliases moved since."""
    if store.aliases() != promoted:
        return "the aliases were moved meanwhile and stay as they are"
    if promoted.previous is None:
        return "the first champion stays, there is none before it"
    try:
        return f"champion {store.rollback(why='rollout failed').champion} is back"
    except (RegistryError, StaleAliases) as error:
        return f"the aliases stay as they are ({error})"
