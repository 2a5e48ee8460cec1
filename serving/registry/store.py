"""The model store of one site: `models/<content-hash>/`, aliases and an audit trail."""

import getpass
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from sasrec.errors import first_problem
from serving.registry import bento
from serving.registry.aliases import Aliases, AliasFile, Role
from serving.registry.files import fsync, sha256

MANIFEST = "manifest.json"
GOLDEN = "golden.json"
REQUIRED_FILES = ("model.safetensors", "config.json", "vocabulary.json")
VERSION_LENGTH = 16
STAGING = ".registering-"
STAGING_SECONDS = 3600  # after which nobody is at work there


class RegistryError(RuntimeError):
    """A version that is missing or broken, or a change that is not possible. One line."""


class Manifest(BaseModel):
    """What a version is and where it came from.

    Attributes:
        version: the first 16 hex digits of the sha256 over its files' names and digests.
        files: sha256 of each file but the manifest.
        metadata: metrics, verdict, data snapshot, split hash, code version: the caller's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    created_at: datetime
    files: dict[str, str]
    metadata: dict[str, Any]


def _newest_first(manifests: Iterable[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda manifest: manifest.created_at, reverse=True)


class ModelStore:
    """Versions under `root`; one store is shared by the pipeline, the commands and the workers.

    Args:
        root: the `models/` directory of a site; created when absent.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"{self.root}: cannot be created ({error.strerror})") from None
        self._aliases = AliasFile(self.root / "aliases.json")

    # Versions

    def register(
        self,
        model_dir: Path,
        *,
        metadata: Mapping[str, Any],
        golden: Sequence[Mapping[str, Any]] | None = None,
        extra_files: Sequence[Path] = (),
    ) -> str:
        """Copy a model directory into the store as an immutable version.

        The same content gives the same version; registering it again changes nothing.

        Args:
            model_dir: holds at least `REQUIRED_FILES`; all its files are taken.
            metadata: JSON values; kept in the manifest and outside the content hash.
            golden: requests with expected answers (`serving.engine.golden.record`), replayed before
                the version may serve.
            extra_files: more files to put beside the model's own.

        Returns:
            The version.

        Raises:
            RegistryError: a required file is missing, or the store cannot be written.
        """
        model_dir = Path(model_dir)
        for name in REQUIRED_FILES:
            if not (model_dir / name).is_file():
                raise RegistryError(f"{model_dir}: no {name}; is this a saved model?")
        sources = [path for path in sorted(model_dir.iterdir()) if path.is_file()]
        try:
            staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.root))
        except OSError as error:
            raise RegistryError(f"{self.root}: cannot be written ({error.strerror})") from None
        try:
            for source in [*sources, *map(Path, extra_files)]:
                shutil.copyfile(source, staging / source.name)
            if golden is not None:
                (staging / GOLDEN).write_bytes(orjson.dumps(list(golden)))
            version = self._seal(staging, dict(metadata))
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        bento.save_model(self.root.parent, version, self.path(version))
        return version

    def _seal(self, staging: Path, metadata: dict[str, Any]) -> str:
        files = {path.name: sha256(path) for path in sorted(staging.iterdir())}
        listing = "".join(f"{digest}  {name}\n" for name, digest in files.items())
        version = hashlib.sha256(listing.encode()).hexdigest()[:VERSION_LENGTH]
        target = self.path(version)
        if target.exists():
            return version
        manifest = Manifest(
            version=version, created_at=datetime.now(UTC), files=files, metadata=metadata
        )
        (staging / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        for path in staging.iterdir():
            path.chmod(0o444)
            fsync(path)
        fsync(staging)
        staging.chmod(0o755)  # mkdtemp's is private
        try:
            staging.rename(target)
        except OSError:
            if target.exists():  # registered by someone else meanwhile
                return version
            raise
        fsync(self.root)
        self._audit("register", version, before=None, after=version, why="")
        return version

    def path(self, version: str) -> Path:
        """The directory of a version, whether or not it exists."""
        return self.root / version

    def versions(self) -> list[Manifest]:
        """All versions, newest first."""
        return _newest_first(map(self.show, self._ids()))

    def _ids(self) -> list[str]:
        return [path.parent.name for path in self.root.glob(f"[!.]*/{MANIFEST}")]

    def show(self, version: str) -> Manifest:
        """The manifest of a version.

        Raises:
            RegistryError: there is no such version, or its manifest does not parse.
        """
        path = self.path(version) / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise RegistryError(f"{self.root}: no version '{version}'") from None
        except ValidationError as error:
            raise RegistryError(
                f"{version}/{MANIFEST}: {': '.join(first_problem(error))}"
            ) from None

    def verify(self, version: str) -> None:
        """Compare every file of a version with its digest.

        Raises:
            RegistryError: a file is missing, changed or unexpected.
        """
        manifest, directory = self.show(version), self.path(version)
        if manifest.version != version:
            raise RegistryError(f"{version}/{MANIFEST}: describes version '{manifest.version}'")
        found = {path.name for path in directory.iterdir()} - {MANIFEST}
        if missing := sorted(manifest.files.keys() - found):
            raise RegistryError(f"{version}/{missing[0]}: file is missing")
        if unexpected := sorted(found - manifest.files.keys()):
            raise RegistryError(f"{version}/{unexpected[0]}: file is not in the manifest")
        for name, digest in manifest.files.items():
            if sha256(directory / name) != digest:
                raise RegistryError(f"{version}/{name}: sha256 differs from the manifest")

    def gc(self, *, keep: int = 5, why: str = "gc") -> list[str]:
        """Delete versions without a role, but for the `keep` newest; returns the deleted.

        What a killed `register` or `gc` left goes as well. A version whose manifest cannot be read
        stays, for whoever looks into that.
        """
        self._remove_left()
        held, readable = self.aliases().versions(), []
        for version in self._ids():
            with suppress(RegistryError):
                readable.append(self.show(version))
        idle = [m.version for m in _newest_first(readable) if m.version not in held]
        for version in idle[keep:]:
            self._delete(version)
            self._audit("gc", version, before=version, after=None, why=why)
        return idle[keep:]

    def _remove_left(self) -> None:
        for folder in self.root.glob(".deleting-*"):
            shutil.rmtree(folder)
        for folder in self.root.glob(f"{STAGING}*"):
            if folder.stat().st_mtime < time.time() - STAGING_SECONDS:
                shutil.rmtree(folder)

    def _delete(self, version: str) -> None:
        trash = self.root / f".deleting-{version}"
        self.path(version).rename(trash)
        shutil.rmtree(trash)
        bento.delete_model(self.root.parent, version)

    # Aliases

    def aliases(self) -> Aliases:
        """Who serves now."""
        return self._aliases.read()

    def promote(
        self,
        version: str,
        *,
        role: Role = "champion",
        why: str = "",
        expected_generation: int | None = None,
    ) -> Aliases:
        """Give `version` a role, after verifying its digests.

        Raises:
            RegistryError: there is no such version, or it is broken.
            StaleAliases: the aliases moved since `expected_generation`.
        """
        self.verify(version)
        before = self.aliases()
        generation = before.generation if expected_generation is None else expected_generation
        after = before.promoted(version, role)
        if after == before and before.generation == generation:
            return before
        after = self._aliases.write(after, expected_generation=generation)
        self._audit(
            f"promote {role}", version, before=getattr(before, role), after=version, why=why
        )
        return after

    def rollback(self, *, why: str = "") -> Aliases:
        """Make the previous champion the champion again.

        Raises:
            RegistryError: there is no previous champion, or it is broken.
        """
        before = self.aliases()
        if before.previous is None:
            raise RegistryError(f"{self.root}: no previous champion to go back to")
        self.verify(before.previous)
        after = self._aliases.write(before.rolled_back(), expected_generation=before.generation)
        self._audit(
            "rollback", before.previous, before=before.champion, after=after.champion, why=why
        )
        return after

    def resolve(self, name: str) -> str:
        """The version behind a role, a full version or an unambiguous prefix of one.

        Raises:
            RegistryError: nothing or more than one version matches.
        """
        aliased = self.aliases().model_dump().get(name)
        if isinstance(aliased, str):
            return aliased
        matches = [m.version for m in self.versions() if m.version.startswith(name)]
        if len(matches) != 1:
            raise RegistryError(f"{self.root}: '{name}' matches {len(matches)} versions")
        return matches[0]

    def _audit(
        self, action: str, version: str, *, before: str | None, after: str | None, why: str
    ) -> None:
        line = {
            "at": datetime.now(UTC).isoformat(),
            "who": _who(),
            "action": action,
            "version": version,
            "from": before,
            "to": after,
            "why": why,
        }
        self._append_audit(json.dumps(line))

    def _append_audit(self, line: str) -> None:
        with (self.root / "audit.jsonl").open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())


def _who() -> str:
    """The user's name; the number where it has none, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
