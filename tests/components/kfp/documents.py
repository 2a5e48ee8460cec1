"""The compiled documents as a server of some version reads them."""

from dataclasses import dataclass
from typing import Any

import yaml

Version = tuple[int, int, int]

# pipelines/api/v2alpha1/pipeline_spec.proto, message PipelineConfig, at each release's tag.
_PIPELINE_CONFIG = {
    (2, 5, 0): {"semaphoreKey", "mutexName", "resourceTtl"},
    (2, 14, 0): {"semaphoreKey", "mutexName", "resourceTtl", "workspace"},
    (2, 15, 0): {"resourceTtl", "workspace"},
    (2, 17, 0): {
        "resourceTtlOnCompletion",
        "resourceTtlOnSuccess",
        "resourceTtlOnFailure",
        "activeDeadlineSeconds",
        "workspace",
    },
}
# kubernetes_platform/proto/kubernetes_executor_config.proto, message KubernetesExecutorConfig, and
# what of its parts later releases added, by the release that did.
_EXECUTOR = {
    (2, 5, 0): {
        "secretAsVolume",
        "secretAsEnv",
        "pvcMount",
        "nodeSelector",
        "podMetadata",
        "imagePullSecret",
        "imagePullPolicy",
        "configMapAsVolume",
        "configMapAsEnv",
        "activeDeadlineSeconds",
        "fieldPathAsEnv",
        "tolerations",
        "genericEphemeralVolume",
        "nodeAffinity",
        "podAffinity",
        "enabledSharedMemory",
        "emptyDirMounts",
    },
    (2, 16, 0): {"securityContext"},
}
_LATER_PARTS = {("secretAsEnv", "optional"): (2, 15, 0), ("pvcMount", "subPath"): (2, 16, 0)}


class Refused(Exception):
    """The server answers 400 with this message."""


@dataclass(frozen=True)
class Package:
    """A pipeline version as stored.

    Attributes:
        specification: the pipeline.
        executors: what each executor's pod gets; empty where the platform document was dropped.
    """

    specification: dict[str, Any]
    executors: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, text: str, version: Version) -> "Package":
        """Take what this version understands.

        pipelines/backend/src/apiserver/template/v2_template.go: a document that does not parse as
        a platform specification, because of one field that the release does not have, is no
        platform specification, and is passed over without a word.

        Raises:
            Refused: no document is a pipeline.
        """
        specification, executors = None, {}
        for document in yaml.safe_load_all(text):
            if "pipelineInfo" in document:
                specification = document
                continue
            kubernetes = document.get("platforms", {}).get("kubernetes", {})
            if kubernetes and not _unknown(kubernetes, version):
                executors = kubernetes["deploymentSpec"]["executors"]
        if specification is None:
            raise Refused("the file is not a compiled pipeline")
        return cls(specification, executors)

    def check_parameters(self, given: dict[str, Any]) -> None:
        """Raise `Refused` unless these are the pipeline's parameters (same file, upstream)."""
        root = self.specification.get("root", {})
        known = root.get("inputDefinitions", {}).get("parameters", {})
        if extra := sorted(given.keys() - known.keys()):
            raise Refused(f"parameter {extra[0]} is not required by the pipeline")
        for name, declared in known.items():
            if name not in given and "defaultValue" not in declared:
                raise Refused(f"parameter {name} is not optional, yet has neither default value")


def _unknown(kubernetes: dict[str, Any], version: Version) -> set[str]:
    """The fields of a platform document that this release does not have."""
    known = set().union(*(f for release, f in _EXECUTOR.items() if release <= version))
    unknown = set(kubernetes.get("pipelineConfig", {})) - _known(version)
    for executor in kubernetes.get("deploymentSpec", {}).get("executors", {}).values():
        unknown |= executor.keys() - known
        for (field, part), since in _LATER_PARTS.items():
            entries = executor.get(field, [])
            unknown |= {f"{field}.{part}" for e in entries if part in e and since > version}
    return unknown


def _known(version: Version) -> set[str]:
    return _PIPELINE_CONFIG[max(release for release in _PIPELINE_CONFIG if release <= version)]
