"""What is examined: the compiled documents, the platform settings, and the cluster at hand."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.runners.cluster import Cluster
from components.runners.doctor.kubernetes_facts import KubernetesFacts
from components.runners.platform import PlatformSettings


@dataclass(frozen=True)
class Target:
    """One site.

    Attributes:
        package: the pipeline as compiled with `platform`.
        kubeflow: the endpoint of Kubeflow Pipelines; None examines the compiled files alone.
        kubernetes: the cluster below it; None where no kubeconfig leads to it.
        namespace: of the runs.
        account: that runs act as.
        no_kubeflow, no_kubernetes: why there is none.
    """

    platform: PlatformSettings
    package: Path
    kubeflow: Cluster | None = None
    kubernetes: KubernetesFacts | None = None
    namespace: str = "kubeflow"
    account: str = "pipeline-runner"
    no_kubeflow: str = ""
    no_kubernetes: str = ""

    @functools.cached_property
    def specification(self) -> dict[str, Any]:
        """The compiled pipeline."""
        return next(yaml.safe_load_all(self.package.read_text()))

    @functools.cached_property
    def pods(self) -> dict[str, dict[str, Any]]:
        """What each executor's pod gets of Kubernetes, by the executor's name."""
        _, platform = yaml.safe_load_all(self.package.read_text())
        return platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    @functools.cached_property
    def containers(self) -> dict[str, dict[str, Any]]:
        """Each executor's container, by the executor's name."""
        executors = self.specification["deploymentSpec"]["executors"]
        return {name: executor["container"] for name, executor in executors.items()}

    @property
    def secret_keys(self) -> set[tuple[str, str]]:
        """Name and key of each Secret that some pod cannot start without."""
        return {
            (secret["secretName"], key["secretKey"])
            for pod in self.pods.values()
            for secret in pod.get("secretAsEnv", [])
            for key in secret["keyToEnv"]
            if not secret.get("optional")
        }

    @property
    def secret_variables(self) -> set[str]:
        """The environment variables that come from Secrets."""
        return {
            key["envVar"]
            for pod in self.pods.values()
            for secret in pod.get("secretAsEnv", [])
            for key in secret["keyToEnv"]
        }

    @property
    def nodes(self) -> int:
        """How many nodes train."""
        return self.platform.resources("train").nodes
