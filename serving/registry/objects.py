"""The model store in S3 or what speaks its protocol: versions, aliases and audit trail by URL.

A worker keeps a copy of the versions it serves on its own disk; digests are checked there as for
any store. Aliases change by conditional PUT (RFC 9110, section 13.1), so of all writers that read
one generation, one succeeds.
"""

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import fsspec
from pydantic import ValidationError

from feature_repo.object_store import put_if
from sasrec.errors import first_problem
from serving.registry.aliases import Aliases, StaleAliases
from serving.registry.store import MANIFEST, Manifest, ModelStore, RegistryError


class ObjectAliases:
    """`aliases.json` as one object; the interface of `AliasFile`."""

    def __init__(self, filesystem: fsspec.AbstractFileSystem, path: str) -> None:
        self._filesystem = filesystem
        self._path = path

    def read(self) -> Aliases:
        """The aliases now; all empty where nothing was promoted yet."""
        try:
            return Aliases.model_validate_json(self._filesystem.cat_file(self._path))
        except FileNotFoundError:
            return Aliases()
        except OSError as error:
            raise RegistryError(f"{self._path}: cannot be read ({error})") from None

    def write(self, aliases: Aliases, *, expected_generation: int) -> Aliases:
        """Store `aliases` as the next generation, if the object is still at the expected one.

        Raises:
            StaleAliases: someone else changed the aliases meanwhile.
        """
        # The tag before the content: a change in between fails the write, never loses one.
        etag, now = self._tag(), self.read()
        if now.generation != expected_generation:
            raise _stale(f"generation is {now.generation}, expected {expected_generation}")
        aliases = aliases.model_copy(update={"generation": now.generation + 1})
        content = aliases.model_dump_json(indent=2).encode()
        try:
            written = put_if(self._filesystem, self._path, content, etag=etag)
        except OSError as error:
            raise RegistryError(f"{self._path}: cannot be written ({error})") from None
        if not written:
            raise _stale(f"generation {expected_generation} was replaced meanwhile")
        return aliases

    def _tag(self) -> str | None:
        try:
            return self._filesystem.info(self._path, refresh=True)["ETag"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(f"{self._path}: cannot be read ({error})") from None


class ObjectModelStore(ModelStore):
    """Versions under a URL, such as `s3://bucket/shop/models`.

    Args:
        url: where all machines find them.
        cache: where this machine keeps its copies.

    Raises:
        RegistryError: the URL's protocol is unknown, or the cache cannot be created.
    """

    def __init__(self, url: str, cache: Path) -> None:
        super().__init__(cache)
        try:
            self._filesystem, self._base = fsspec.url_to_fs(url, use_listings_cache=False)
        except (ValueError, ImportError) as error:
            raise RegistryError(f"{url}: {' '.join(str(error).split())}") from None
        self._aliases = ObjectAliases(self._filesystem, f"{self._base}/aliases.json")  # type: ignore[assignment]

    def path(self, version: str) -> Path:
        """The directory of a version on this machine, fetched when it was not there."""
        local = self.root / version
        if not local.exists() and self._filesystem.exists(f"{self._base}/{version}/{MANIFEST}"):
            self._fetch(version, local)
        return local

    def register(self, *args: Any, **kwargs: Any) -> str:
        """As `ModelStore.register`, then upload; the manifest goes last and makes it a version."""
        version = super().register(*args, **kwargs)
        remote = f"{self._base}/{version}"
        if not self._filesystem.exists(f"{remote}/{MANIFEST}"):
            names = [path.name for path in self.path(version).iterdir() if path.name != MANIFEST]
            for name in [*sorted(names), MANIFEST]:
                self._filesystem.put_file(str(self.path(version) / name), f"{remote}/{name}")
        return version

    def _ids(self) -> list[str]:
        return [path.split("/")[-2] for path in self._filesystem.glob(f"{self._base}/*/{MANIFEST}")]

    def show(self, version: str) -> Manifest:
        """The manifest of a version.

        Raises:
            RegistryError: there is no such version, or its manifest does not parse.
        """
        try:
            content = self._filesystem.cat_file(f"{self._base}/{version}/{MANIFEST}")
            return Manifest.model_validate_json(content)
        except FileNotFoundError:
            raise RegistryError(f"{self._base}: no version '{version}'") from None
        except ValidationError as error:
            raise RegistryError(
                f"{version}/{MANIFEST}: {': '.join(first_problem(error))}"
            ) from None

    def _delete(self, version: str) -> None:
        # The manifest first: half a version is none.
        self._filesystem.rm_file(f"{self._base}/{version}/{MANIFEST}")
        self._filesystem.rm(f"{self._base}/{version}", recursive=True)
        if (self.root / version).exists():
            super()._delete(version)

    def _append_audit(self, line: str) -> None:
        # Objects cannot be appended to: one object a line, and names that sort by time.
        name = f"{self._base}/audit/{line[8:34]}-{uuid.uuid4().hex[:8]}.json"
        self._filesystem.pipe_file(name, line.encode())

    def _fetch(self, version: str, local: Path) -> None:
        staging = Path(tempfile.mkdtemp(prefix=".fetching-", dir=self.root))
        try:
            for remote in self._filesystem.ls(f"{self._base}/{version}", detail=False):
                self._filesystem.get_file(remote, str(staging / remote.split("/")[-1]))
            staging.chmod(0o755)  # mkdtemp's is private
            staging.rename(local)
        except OSError as error:
            if not local.exists():  # else another worker was faster
                raise RegistryError(f"{version}: cannot be fetched ({error})") from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _stale(reason: str) -> StaleAliases:
    return StaleAliases(f"aliases.json: {reason}; read the aliases again and retry")
