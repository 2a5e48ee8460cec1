"""The same versions in BentoML's own model store, as `sasrec:<version>`, and in Bentos."""

import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml._internal.models import ModelStore as BentoModelStore
from bentoml.exceptions import NotFound

MODEL_NAME = "sasrec"
# By what name the service in a Bento finds the version that was built into it.
BUNDLED = "bundled"


def bentoml_home(home: Path) -> Path:
    """BentoML's state of a site: what the user set, else a folder of the site."""
    return Path(os.environ.get("BENTOML_HOME", home / "bentoml"))


def model_store(home: Path) -> BentoModelStore:
    """BentoML's model store of a site.

    BentoML has one store per process, found once; a process here may work on several sites.
    """
    directory = bentoml_home(home) / "models"
    directory.mkdir(parents=True, exist_ok=True)
    return BentoModelStore(str(directory))


def save_model(home: Path, version: str, directory: Path) -> None:
    """Put a version into BentoML's store, unless it is there."""
    store = model_store(home)
    tag = f"{MODEL_NAME}:{version}"
    if store.list(tag):
        return
    with bentoml.models.create(tag, _model_store=store) as model:
        shutil.copytree(directory, model.path, dirs_exist_ok=True)


def delete_model(home: Path, version: str) -> None:
    """Remove a version from BentoML's store, if it is there."""
    store = model_store(home)
    for model in store.list(f"{MODEL_NAME}:{version}"):
        store.delete(model.tag)


def unpack(models: Path) -> str | None:
    """Put the version that is built into the running Bento among a site's; returns the version.

    None when this process serves no Bento, but the source tree.
    """
    try:
        model = bentoml.models.get(BUNDLED)
    except NotFound:
        return None
    version = str(model.tag.version)
    target = models / version
    if not target.exists():
        models.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=models))
        only_bentoml_s = shutil.ignore_patterns("model.yaml")
        shutil.copytree(model.path, staging, dirs_exist_ok=True, ignore=only_bentoml_s)
        staging.chmod(0o755)  # mkdtemp's is private
        try:
            staging.rename(target)
        except OSError:
            shutil.rmtree(staging)
            if not target.exists():  # else another worker was first
                raise
    return version
