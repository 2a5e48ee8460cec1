"""Which fields of a compiled pipeline a Kubeflow Pipelines server of some version knows."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Version = tuple[int, int, int]

REQUIRED: Version = (2, 17, 0)
"""The oldest release that runs this pipeline as compiled."""

# The first release whose protos have the field, or whose driver fills the placeholder in: upstream
# api/v2alpha1/pipeline_spec.proto, kubernetes_platform/proto, backend/src/v2/cmd/driver/main.go.
_PIPELINE_CONFIG = {"resourceTtlOnCompletion": (2, 17, 0), "activeDeadlineSeconds": (2, 17, 0)}
_EXECUTOR = {"securityContext": (2, 16, 0)}
_PLACEHOLDERS = {"{{$.pipeline_job_schedule_time_utc}}": (2, 17, 0)}


def parse_version(tag: str) -> Version | None:
    """Read what a server says of itself, such as 2.17.0; None where that is no release."""
    match = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)(?:[-+].*)?", tag)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def unknown_to(version: Version, package: Path) -> list[str]:
    """What the compiled documents contain that a server of this version does not know."""
    documents = list(yaml.safe_load_all(package.read_text()))
    return list(dict.fromkeys(f for f, since in _fields(documents) if since > version))


def _fields(documents: list[Any]) -> Iterator[tuple[str, Version]]:
    for document in documents:
        kubernetes = document.get("platforms", {}).get("kubernetes", {})
        for field in kubernetes.get("pipelineConfig", {}):
            if field in _PIPELINE_CONFIG:
                yield f"pipelineConfig.{field}", _PIPELINE_CONFIG[field]
        for executor in kubernetes.get("deploymentSpec", {}).get("executors", {}).values():
            yield from ((field, _EXECUTOR[field]) for field in executor if field in _EXECUTOR)
        for text in _constants(document):
            if text in _PLACEHOLDERS:
                yield text, _PLACEHOLDERS[text]


def _constants(value: Any) -> Iterator[str]:
    """Every runtime constant of a specification."""
    if isinstance(value, dict):
        if isinstance(constant := value.get("constant"), str):
            yield constant
        for inner in value.values():
            yield from _constants(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _constants(inner)
