"""What a result depends on, as a hash: equal keys mean equal work, so a killed run can resume."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import kernels
import sasrec
from components.support.recipe import Recipe
from sasrec.model.files import CONFIG, VOCABULARY, WEIGHTS
from sasrec.scoring import trend


def code_version() -> str:
    """sha256 of the library's source, the torch version in it: the commit need not be clean."""
    digest = hashlib.sha256(version("torch").encode())
    for package in (kernels, sasrec):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root.parent).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def model_digest(directory: Path) -> str:
    """sha256 over the files that are a saved model, whatever else lies beside them."""
    digest = hashlib.sha256()
    trends = [name for name in (trend.FILE, trend.COUNTS) if (directory / name).exists()]
    for name in (CONFIG, VOCABULARY, WEIGHTS, *trends):
        digest.update(name.encode() + hashlib.sha256((directory / name).read_bytes()).digest())
    return digest.hexdigest()[:16]


def training_key(recipe: Recipe, data_sha256: str, *more: object) -> str:
    """Names one training by its data, settings and code, and what else decides it."""
    settings = [recipe.model.model_dump(), recipe.train.model_dump()]
    parts = [data_sha256, *settings, code_version(), *more]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
