"""What the probe's pods do: on the volume, two at a time, and over the network."""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import fsspec

from feature_repo.lake.lake import LAKE_URL
from feature_repo.lease import MODELS_URL

_READY, _CONTENT, _LOCK, _SEEN = "ready", "content", "lock", "seen"
_TEXT = "all of it\n" * 10_000
WAIT_SECONDS = 600.0
"""The other pod may wait for a node and pull the image meanwhile."""
VISIBLE_SECONDS = 60.0
"""How long a renamed file may stay unseen by another pod: serving polls about every second."""


class ProbeFailed(RuntimeError):
    """The volume or the network is not as it must be. One line."""


def write(folder: Path) -> None:
    """Write a file as a stage does: aside, to disk, renamed; then remove it.

    Raises:
        OSError: this user may not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _publish(folder / f"written-{os.getpid()}", _TEXT)
    (folder / f"written-{os.getpid()}").unlink()


def hold(folder: Path, wait_seconds: float = WAIT_SECONDS) -> None:
    """Take a lock, publish a file, and wait until the other pod has looked at both.

    Raises:
        ProbeFailed: it never did.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _publish(folder / _CONTENT, _TEXT)
        _publish(folder / _READY, f"{time.time()}")
        _wait_for((folder / _SEEN).exists, wait_seconds, "the other pod never looked")


def see_rename(folder: Path, wait_seconds: float = WAIT_SECONDS) -> None:
    """Find what `hold` published in another pod, whole.

    Raises:
        ProbeFailed: it is not there, or in part.
    """
    _wait_for((folder / _READY).exists, wait_seconds, "the other pod's file never appeared")
    _wait_for((folder / _CONTENT).exists, VISIBLE_SECONDS, "a file renamed earlier is not there")
    if (folder / _CONTENT).read_text() != _TEXT:
        raise ProbeFailed("a renamed file is there in part")


def find_locked(folder: Path) -> None:
    """Fail to take the lock that `hold` has in another pod.

    Raises:
        ProbeFailed: both pods have it.
    """
    try:
        with (folder / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        _publish(folder / _SEEN, "")
    raise ProbeFailed("two pods hold one lock: locks of this volume are each node's own")


def named_in(environment: Mapping[str, str]) -> list[str]:
    """The addresses that a pod gets by Secret: Feast's form of Redis, `host:port,password=...`."""
    connection = environment.get("REDIS_CONNECTION", "")
    return [connection.partition(",")[0]] if connection else []


def stores_in(environment: Mapping[str, str]) -> list[str]:
    """The URLs at which a pod is told to keep the lake and the models."""
    return [environment[name] for name in (LAKE_URL, MODELS_URL) if environment.get(name)]


def store(url: str, name: str) -> None:
    """Write, read and remove an object beneath this URL, as the lake and the registry do.

    Raises:
        ProbeFailed: the store is not there, or this account may not.
    """
    try:
        filesystem, base = fsspec.url_to_fs(url, use_listings_cache=False)
        path = f"{base}/.doctor/{name}"
        filesystem.pipe_file(path, _TEXT.encode())
        read = filesystem.cat_file(path)
        filesystem.rm_file(path)
    except Exception as error:  # every kind of store has errors of its own
        raise ProbeFailed(f"{url}: {type(error).__name__}: {error}") from None
    if read != _TEXT.encode():
        raise ProbeFailed(f"{url}: an object is read back in part")


def reach(addresses: Iterable[str]) -> None:
    """Open a TCP connection to each `host:port`.

    Raises:
        ProbeFailed: one does not answer.
    """
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise ProbeFailed(f"{address}: {error}") from None


def _publish(path: Path, text: str) -> None:
    aside = path.with_name(f"{path.name}.tmp")
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _wait_for(there: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        if time.monotonic() > deadline:
            raise ProbeFailed(f"{otherwise} in {seconds:.0f} s")
        time.sleep(0.2)
