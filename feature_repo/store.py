"""Where a published feature store lives, and how it is opened."""

import logging
import os
import shutil
import warnings
from pathlib import Path
from string import Template

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


def published_generation(repo_dir: Path) -> Path | None:
    """The folder that readers use: the last one published in full; None before the first."""
    link = Path(repo_dir) / CURRENT
    return link.resolve() if link.exists() else None


def current_generation(repo_dir: Path) -> Path:
    """As `published_generation`.

    Raises:
        DataError: nothing has been published.
    """
    generation = published_generation(repo_dir)
    if generation is None:
        raise DataError(f"{repo_dir}: no feature store is published here; run the pipeline first")
    return generation


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
    template = Template(Path(__file__).with_name(f"feature_store.{profile}.yaml").read_text())
    # Feast itself fills in what names an environment variable.
    settings = template.safe_substitute(generation=generation.name)
    (generation / "feature_store.yaml").write_text(settings)


def make_current(repo_dir: Path, generation: Path) -> None:
    """Point readers at `generation`, in one rename, and remove all but it and the one before."""
    previous = published_generation(repo_dir)
    replacement = repo_dir / f".{CURRENT}.new"
    replacement.unlink(missing_ok=True)
    replacement.symlink_to(Path(GENERATIONS) / generation.name)
    replacement.replace(repo_dir / CURRENT)
    for folder in _generations(repo_dir):
        # Readers that are open finish on the one before.
        if folder not in (generation, previous):
            _remove(folder)


def remove_unfinished(repo_dir: Path) -> None:
    """Remove what a killed publish left: generations newer than the current one."""
    current = published_generation(repo_dir)
    for folder in _generations(repo_dir):
        if current is None or folder.name > current.name:
            _remove(folder)


def _generations(repo_dir: Path) -> list[Path]:
    return sorted((repo_dir / GENERATIONS).glob("*"))


def _remove(generation: Path) -> None:
    # The online store may be a server, from which the folder's removal deletes nothing.
    if (generation / "registry.db").exists():
        open_store(generation).teardown()
    shutil.rmtree(generation)
