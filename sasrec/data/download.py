"""Fetch a public data set once, and check that it is the one everyone else measured on."""

import hashlib
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from sasrec.errors import DataError


@dataclass(frozen=True)
class Archive:
    """A published zip file.

    Attributes:
        name: the data set's name.
        url: https address.
        sha256: of the zip file.
        members: the files the product reads.
    """

    name: str
    url: str
    sha256: str
    members: tuple[str, ...]


_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
ARCHIVES = {
    "ml-100k": Archive(
        "ml-100k",
        _GROUPLENS + "ml-100k.zip",
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        ("ml-100k/u.data", "ml-100k/u.item"),
    ),
    "ml-1m": Archive(
        "ml-1m",
        _GROUPLENS + "ml-1m.zip",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        ("ml-1m/ratings.dat", "ml-1m/movies.dat"),
    ),
}


def cache_dir() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/sasrec-pipeline`, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sasrec-pipeline"


def download(archive: Archive, *, cache: Path | None = None) -> Path:
    """The folder that holds the archive's files, fetched and verified if it is not there yet.

    Raises:
        DataError: no network, an HTTP error, or a file that is not the published one.
    """
    folder = (cache or cache_dir()) / archive.name
    if all((folder / Path(member).name).is_file() for member in archive.members):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    zipped = folder / "download.zip.partial"
    try:
        _fetch(archive, zipped)
        with zipfile.ZipFile(zipped) as content:
            for member in archive.members:
                _write_whole(folder / Path(member).name, content.read(member))
    finally:
        zipped.unlink(missing_ok=True)
    return folder


def _fetch(archive: Archive, target: Path) -> None:
    digest = hashlib.sha256()
    try:
        with (
            httpx.stream("GET", archive.url, follow_redirects=True, timeout=30) as response,
            target.open("wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_bytes():
                digest.update(chunk)
                file.write(chunk)
    except httpx.HTTPError as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{archive.name}: cannot download {archive.url} ({reason}); "
            "fetch it elsewhere and name its folder with --data-dir"
        ) from None
    if digest.hexdigest() != archive.sha256:
        raise DataError(
            f"{archive.name}: {archive.url} has sha256 {digest.hexdigest()}, expected "
            f"{archive.sha256}; nothing was kept"
        )


def _write_whole(path: Path, content: bytes) -> None:
    """A file that exists is complete: written under another name first, then renamed."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
