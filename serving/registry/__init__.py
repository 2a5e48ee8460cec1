"""Immutable model versions and the aliases that say which of them serves."""

import os
from pathlib import Path

from serving.registry.aliases import Aliases, StaleAliases
from serving.registry.objects import ObjectModelStore
from serving.registry.store import ModelStore, RegistryError

__all__ = ["Aliases", "ModelStore", "RegistryError", "StaleAliases", "open_registry"]


def open_registry(home: Path, *, must_exist: bool = False) -> ModelStore:
    """The model store of the site at `home`, or at `$SASREC_MODELS_URL` when that is set.

    With a URL, `<home>/models` is this machine's copy of the versions that it used.

    Raises:
        RegistryError: it cannot be opened; or, with `must_exist`, nothing was ever put there.
    """
    models = Path(home) / "models"
    if url := os.environ.get("SASREC_MODELS_URL"):
        return ObjectModelStore(url, models)
    if must_exist and not models.is_dir():
        raise RegistryError(f"{home}: no models here; run the pipeline first, or give --home")
    return ModelStore(models)
