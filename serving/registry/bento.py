"""The same versions in BentoML's own model store, as `sasrec:<version>`."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

import bentoml
from bentoml._internal.models import ModelStore as BentoModelStore

MODEL_NAME = "sasrec"


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
