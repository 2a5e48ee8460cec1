"""What a result depends on, as a hash: equal keys mean equal work, so a killed run can resume."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from components.support.settings import RunConfig


def code_version() -> str:
    """sha256 of the library's source, the torch version in it: the commit need not be clean."""
    digest = hashlib.sha256(version("torch").encode())
    root = Path(__file__).parents[2]
    for folder in ("kernels", "sasrec"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def training_key(run: RunConfig, split_sha256: str, *inputs: str | None) -> str:
    """Names one training by its data, settings, code, and what else it begins with.

    Args:
        inputs: digests of weights and item features, the version that it starts from.
    """
    parts = [split_sha256, run.model.model_dump(), run.train.model_dump(), code_version(), *inputs]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
