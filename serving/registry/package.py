"""Building a Bento: the service, one version and the pinned libraries, as one directory."""

import os
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from serving.registry.bento import BUNDLED, MODEL_NAME, bentoml_home, save_model
from serving.registry.store import ModelStore, RegistryError

DISTRIBUTION = "sasrec-pipeline"
PACKAGES = ("kernels", "sasrec", "feature_repo", "serving")


def build(home: Path, store: ModelStore, version: str) -> str:
    """Build a Bento that serves `version` wherever it runs; returns its tag.

    Serve it with `bentoml serve TAG`; `SASREC_HOME` is where it keeps its state. It never swaps:
    a newer version is a newer Bento.

    Raises:
        RegistryError: the version is broken, or BentoML refused; with its last line.
    """
    store.verify(version)
    save_model(home, version, store.path(version))
    root = Path(__file__).resolve().parents[2]
    recipe = {
        "service": "serving.service:Recommender",
        "name": MODEL_NAME,
        "include": [f"{package}/**" for package in PACKAGES],
        "exclude": ["**/__pycache__/**"],
        "models": [{"tag": f"{MODEL_NAME}:{version}", "alias": BUNDLED}],
        "python": {"packages": pinned(DISTRIBUTION), "lock_packages": False},
    }
    with tempfile.TemporaryDirectory() as scratch:
        bentofile = Path(scratch) / "bentofile.yaml"
        bentofile.write_text(yaml.safe_dump(recipe))
        # A process of its own: BentoML finds its stores once per process.
        done = subprocess.run(
            [
                sys.executable, "-m", "bentoml", "build", str(root),
                "--bentofile", str(bentofile), "--output", "tag",
            ],
            # BentoML imports the service to describe it; no site is there, and no keys.
            env={
                **os.environ,
                "BENTOML_HOME": str(bentoml_home(home).resolve()),
                "BENTOML_DO_NOT_TRACK": "True",
                "SASREC_HOME": scratch,
                "SASREC_INSECURE": "True",
            },
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).split("\n")
    last = [line for line in lines if line.strip()][-1:] or ["no output"]
    if done.returncode:
        raise RegistryError(f"bentoml build: {last[0]}")
    return last[0].removeprefix("__tag__:")


def pinned(distribution: str) -> list[str]:
    """What a distribution needs, and all that these need, each as it is installed here."""
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(distribution, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            key = canonicalize_name(needed.name)
            # Without the local part ("+cpu"): which build of torch is the installer's choice.
            pins[key] = f"{key}=={Version(metadata.version(key)).public}"
            waiting += [(key, wanted) for wanted in ("", *needed.extras)]
    return sorted(pins.values())
