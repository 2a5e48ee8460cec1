"""Artifact metadata that Kubeflow Pipelines can store."""

import math
from collections.abc import Mapping
from typing import Any


def storable(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without what has none: null, NaN and infinity, at any depth, are left out.

    The launcher stores metadata after the stage did its work; it fails the stage on a null
    (upstream `backend/src/v2/metadata/converter.go`), and on NaN and infinity, which are not JSON.
    """
    return {key: _plain(value) for key, value in values.items() if _has_value(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return storable(value)
    if isinstance(value, list | tuple):
        return [_plain(element) for element in value if _has_value(element)]
    return value


def _has_value(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
