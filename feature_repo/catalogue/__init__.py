"""What the shop said of its items since they were trained on, visible to every worker."""

from pathlib import Path

from feature_repo.catalogue.protocol import CatalogueStore, Changes
from feature_repo.catalogue.redis import RedisCatalogue
from feature_repo.catalogue.sqlite import SQLiteCatalogue

__all__ = ["CatalogueStore", "Changes", "RedisCatalogue", "SQLiteCatalogue", "open_catalogue"]


def open_catalogue(history_location: str | Path) -> CatalogueStore:
    """The catalogue beside an online history: in the same Redis, or in the same folder."""
    if str(history_location).startswith(("redis://", "rediss://", "unix://")):
        return RedisCatalogue(str(history_location))
    return SQLiteCatalogue(Path(history_location).with_name("catalogue.db"))
