"""Where a published feature store lives, and how it is opened."""

import logging
import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import ibis
from feast import FeatureStore
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from redis import Redis

from feature_repo.connection import connect
from feature_repo.locks import exclusive
from feature_repo.volume import refuse_network_volume
from sasrec.errors import DataError

os.environ.setdefault("FEAST_USAGE", "False")
logging.getLogger("feast").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module="feast")
warnings.filterwarnings("ignore", message="fetch_arrow_table", module="ibis")

CURRENT = "current"
GENERATIONS = "generations"
ONLINE_DATABASE = "online.db"
CUTOFFS = "cutoffs.parquet"
"""The moments a generation was published for; absent when it was published for any."""


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


def open_feature_store(generation: Path) -> FeatureStore:
    """Feast over one generation's registry, offline tables and online store."""
    return FeatureStore(repo_path=str(generation))


@contextmanager
def bounded_memory(folder: Path, memory_limit: str | None = None) -> Iterator[None]:
    """Within, Feast's joins take up to `memory_limit` in this process and spill into `folder`."""
    with TemporaryDirectory(dir=folder, prefix="join-") as spill:
        ibis.set_backend(ibis.duckdb.from_connection(connect(Path(spill), memory_limit)))
        yield


def delete_online(generation: Path, user_id: str) -> None:
    """Remove a user's rows from the online store, for which Feast has no call."""
    store = open_feature_store(generation)
    key = EntityKeyProto(join_keys=["user_id"], entity_values=[ValueProto(string_val=user_id)])
    encoded = serialize_entity_key(key, store.config.entity_key_serialization_version)
    database = generation / ONLINE_DATABASE
    if database.exists():
        with closing(sqlite3.connect(database, timeout=10)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            with connection:
                for (table,) in tables.fetchall():
                    connection.execute(f'DELETE FROM "{table}" WHERE entity_key = ?', (encoded,))
            # Until then the rows are in the file as they were.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    else:
        with redis_of(store) as client:
            client.delete(encoded + store.project.encode())


def redis_of(store: FeatureStore) -> Redis:
    """The Redis server of a store with the production profile."""
    address, *options = store.config.online_store.connection_string.split(",")
    host, port = address.split(":")
    return Redis(host, int(port), **dict(option.split("=", 1) for option in options))


def let_readers_in(generation: Path) -> None:
    """Let readers of a SQLite online store go on while the mirror writes; the file keeps this."""
    database = generation / ONLINE_DATABASE
    if database.exists():
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")


def configure(generation: Path, profile: str) -> None:
    """Put the profile's `feature_store.yaml` into `generation`.

    Raises:
        DataError: the profile keeps SQLite files, and the folder is on a network volume.
    """
    if profile == "local":
        refuse_network_volume(generation)
    template = Template(Path(__file__).with_name(f"feature_store.{profile}.yaml").read_text())
    # Feast itself fills in what names an environment variable.
    settings = template.safe_substitute(generation=generation.name)
    (generation / "feature_store.yaml").write_text(settings)


@contextmanager
def only_publisher(repo_dir: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the right to publish, or to change what is published.

    Args:
        patience: as in `feature_repo.locks.exclusive`.

    Raises:
        DataError: somebody else holds it.
    """
    repo_dir.mkdir(parents=True, exist_ok=True)
    busy = f"{repo_dir}: a publish is running; wait for it"
    with exclusive(repo_dir / "publish.lock", busy, patience=patience):
        yield


def make_current(repo_dir: Path, generation: Path) -> None:
    """Point readers at `generation`, in one rename, and remove all but it and the one before."""
    previous = published_generation(repo_dir)
    replacement = repo_dir / f".{CURRENT}.new"
    replacement.unlink(missing_ok=True)
    replacement.symlink_to(Path(GENERATIONS) / generation.name)
    replacement.replace(repo_dir / CURRENT)
    for folder in generations(repo_dir):
        # Readers that are open finish on the one before.
        if folder not in (generation, previous):
            _remove(folder)


def remove_unfinished(repo_dir: Path) -> None:
    """Remove what a killed publish left: generations newer than the current one."""
    current = published_generation(repo_dir)
    for folder in generations(repo_dir):
        if current is None or folder.name > current.name:
            _remove(folder)


def generations(repo_dir: Path) -> list[Path]:
    """All generation folders, oldest first: the current one, the one before, an unfinished one."""
    return sorted((repo_dir / GENERATIONS).glob("*"))


def _remove(generation: Path) -> None:
    # The online store may be a server, from which the folder's removal deletes nothing.
    if (generation / "registry.db").exists():
        open_feature_store(generation).teardown()
    shutil.rmtree(generation)
