"""Where a published feature store lives, and how it is opened."""

import logging
import os
import shutil
import warnings
from pathlib import Path

from feast import FeatureStore

from sasrec.schema import DataError

os.environ.setdefault("FEAST_USAGE", "False")
logging.getLogger("feast").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="feast")
warnings.filterwarnings("ignore", message="fetch_arrow_table", module="ibis")

CURRENT = "current"
GENERATIONS = "generations"
CUTOFFS = "cutoffs.parquet"
"""The moments a generation was published for; absent when it was published for any."""
PROFILES = ("local", "production")


def current_generation(repo_dir: Path) -> Path:
    """The folder that readers use: the last one published in full.

    Raises:
        DataError: nothing has been published.
    """
    link = Path(repo_dir) / CURRENT
    if not link.exists():
        raise DataError(f"{repo_dir}: no feature store is published here; run the pipeline first")
    return link.resolve()


def open_store(generation: Path) -> FeatureStore:
    """Feast over one generation's registry, offline tables and online store."""
    return FeatureStore(repo_path=str(generation))


def configure(generation: Path, profile: str) -> None:
    """Put the profile's `feature_store.yaml` into `generation`.

    Raises:
        ValueError: no such profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: '{profile}' is unknown; choose one of {', '.join(PROFILES)}")
    template = Path(__file__).with_name(f"feature_store.{profile}.yaml")
    shutil.copyfile(template, generation / "feature_store.yaml")


def make_current(repo_dir: Path, generation: Path) -> None:
    """Point readers at `generation`, in one rename, and delete all but it and the one before."""
    link = repo_dir / CURRENT
    previous = link.resolve() if link.exists() else None
    replacement = repo_dir / f".{CURRENT}.new"
    replacement.unlink(missing_ok=True)
    replacement.symlink_to(Path(GENERATIONS) / generation.name)
    replacement.replace(link)
    for folder in (repo_dir / GENERATIONS).iterdir():
        # Open readers finish on the previous generation; anything else is a killed publish.
        if folder.resolve() not in (generation.resolve(), previous):
            shutil.rmtree(folder)
