"""What a result depends on, as a hash: equal keys mean equal work, so a killed run can resume."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from components.support.settings import RunConfig


def code_version() -> str:
    """sha256 of the library's source, the torch version in it: the commit need not be clean."""
    digest = hashlib.sha256(version("torch").encode())
    root = Path(__file__).parent.parent
    for folder in ("kernels", "sasrec"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def training_key(run: RunConfig, split_sha256: str) -> str:
    """Names one training by its data, settings and code."""
    parts = [split_sha256, run.model.model_dump(), run.train.model_dump(), code_version()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
