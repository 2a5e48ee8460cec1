"""Who may change a site now: a lease with an owner and an expiry, where all hosts see it.

File locks do not do: on a network volume they may hold on one node only, and in S3 there are none.
A lease is a row of files (or objects) `<home>/lease/<generation>.json`, and the highest generation
is the one that counts. Whoever makes a generation's file, which one alone can, holds the lease; who
held it before finds a higher generation, and has lost it. Only the holder writes a generation
again, to say that it lives.

Time is the store's own: what was just written to it tells it. So clocks of hosts need not agree.
"""

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import fsspec

from feature_repo.host import process_start, this_host
from feature_repo.object_store import put_if
from sasrec.errors import DataError

FOLDER = "lease"
MODELS_URL = "SASREC_MODELS_URL"
"""Where this names an object store, the lease is beside the models: there all hosts meet."""
BEAT_SECONDS = 30.0
WORKING_SECONDS = 300.0
"""How long a holder at work may be silent before another may take over."""
WAITING_SECONDS = 1800.0
"""The same between two stages of a run: the next one's pod may wait for a node and its image."""


class LeaseHeld(DataError):
    """Another one works on the site. One line: who, and what to do."""


class LeaseLost(RuntimeError):
    """Another one took over; what is done from now on would be done to its work. One line."""


class Superseded(LeaseLost):
    """The one that took over is another attempt of the same stage, whose run goes on."""


@dataclass(frozen=True)
class Claim:
    """What a holder wrote.

    Attributes:
        owner: a run, or a command; the stages of a run are one owner.
        host: `this_host()` of the process that wrote it.
        pid, started: that process, and when it began.
        seconds: for how long after it was written the claim holds; 0 when it was given back.
    """

    owner: str
    host: str
    pid: int
    started: float
    seconds: float

    @property
    def process(self) -> tuple[str, int, float]:
        """Who wrote it, among all processes of all hosts."""
        return self.host, self.pid, self.started

    @classmethod
    def mine(cls, owner: str, seconds: float) -> "Claim":
        """A claim of this process."""
        return cls(owner, this_host(), os.getpid(), process_start(os.getpid()) or 0.0, seconds)

    @classmethod
    def parse(cls, content: bytes) -> "Claim":
        """Read what `to_bytes` wrote; nothing yet is a holder about to write."""
        return cls(**json.loads(content)) if content else cls("?", "", 0, 0.0, WORKING_SECONDS)

    def to_bytes(self) -> bytes:
        """The claim as JSON."""
        return json.dumps(asdict(self)).encode()


class Store(Protocol):
    """Where generations are kept."""

    def generations(self) -> list[int]:
        """Those that are there, ascending."""

    def create(self, generation: int, content: bytes) -> bool:
        """Make a generation; False if it is there. One of all callers makes it."""

    def write(self, generation: int, content: bytes) -> None:
        """Write one's own generation again."""

    def read(self, generation: int) -> tuple[bytes, float]:
        """Its content, and when it was last written, in the store's time.

        Raises:
            FileNotFoundError: it is gone.
        """

    def now(self) -> float:
        """The store's time."""

    def remove(self, generation: int) -> None:
        """Remove an old one."""


class Lease:
    """The right to change a site, held by `owner` in one generation."""

    def __init__(self, store: Store, generation: int, claim: Claim) -> None:
        self._store, self._generation, self._claim = store, generation, claim

    def renew(self, seconds: float = WORKING_SECONDS) -> None:
        """Say that the holder lives, and for how long it may be silent.

        Raises:
            LeaseLost: another one holds the lease.
            OSError: the store cannot be written.
        """
        self._require_newest()
        self._claim = replace(self._claim, seconds=seconds)
        self._store.write(self._generation, self._claim.to_bytes())
        self._require_newest()  # a take-over in between was not seen above

    def release(self) -> None:
        """Give it back, if it is still held."""
        with suppress(LeaseLost):
            self.renew(seconds=0)

    @contextmanager
    def kept(self, lost: Callable[[LeaseLost], None]) -> Iterator[None]:
        """Within, a thread renews the lease.

        Args:
            lost: told why, from that thread, when the lease is another's, or could not be renewed
                for as long as it holds. It must end this process, or what this process writes.
        """
        ended = threading.Event()

        def beat() -> None:
            renewed = time.monotonic()
            while not ended.wait(BEAT_SECONDS):
                try:
                    self.renew()
                    renewed = time.monotonic()
                except LeaseLost as error:
                    return lost(error)
                except Exception as error:  # S3's are no OSError: each store has its own
                    if time.monotonic() - renewed > WORKING_SECONDS - BEAT_SECONDS:
                        return lost(LeaseLost(f"the lease could not be renewed in time ({error})"))

        thread = threading.Thread(target=beat, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _require_newest(self) -> None:
        newest = max(self._store.generations(), default=0)
        if newest != self._generation:
            by = _read(self._store, newest)
            if by and by.owner == self._claim.owner:
                raise Superseded(f"another attempt goes on with {by.owner}, on {by.host}")
            raise LeaseLost(
                f"{self._claim.owner} lost its lease to {by.owner if by else 'nobody known'}; "
                "start the run again"
            )


def take(home: Path, owner: str) -> Lease:
    """Take the lease on a site, at the beginning of what changes it.

    Raises:
        LeaseHeld: another owner, or another process of this one on this host, is at work.
    """
    store = open_lease_store(home)
    while True:
        newest = max(store.generations(), default=0)
        if newest and (holder := _at_work(store, newest, owner)):
            raise LeaseHeld(
                f"another run is using {home}: {holder}; wait for it, or give --home another folder"
            )
        with suppress(LeaseLost):
            if begun := _begin_generation(store, newest + 1, owner):
                return begun


def _begin_generation(store: Store, generation: int, owner: str) -> Lease | None:
    """A generation of one's own; None where another one was faster.

    Raises:
        LeaseLost: another one began a later generation already.
    """
    claim = Claim.mine(owner, WORKING_SECONDS)
    if not store.create(generation, claim.to_bytes()):
        return None
    lease = Lease(store, generation, claim)
    lease.renew()
    for old in store.generations():
        if old < generation - 1:
            store.remove(old)
    return lease


def resume(home: Path, owner: str) -> Lease:
    """Go on with the lease that an earlier stage of `owner` took, or an earlier attempt.

    It may have expired, as long as nobody has taken it. Another process than the one that wrote
    the last claim begins a generation: a pod that Kubernetes lost sight of may still be at work,
    and finds out as any other holder does.

    Raises:
        LeaseLost: another owner has taken it since.
    """
    store = open_lease_store(home)
    while True:
        newest = max(store.generations(), default=0)
        holder = _read(store, newest)
        if holder is None:
            return take(home, owner)
        if holder.owner != owner:
            raise LeaseLost(f"{owner} lost its lease to {holder.owner}; start the run again")
        claim = Claim.mine(owner, WORKING_SECONDS)
        if holder.process == claim.process:
            lease = Lease(store, newest, claim)
            lease.renew()
            return lease
        if begun := _begin_generation(store, newest + 1, owner):
            return begun


@contextmanager
def held(home: Path, owner: str, lost: Callable[[LeaseLost], None]) -> Iterator[None]:
    """Hold the lease on a site for as long as one process works on it.

    Args:
        lost: as in `Lease.kept`.

    Raises:
        LeaseHeld: another one is at work.
    """
    taken = take(home, owner)
    try:
        with taken.kept(lost):
            yield
    finally:
        taken.release()


def owner_of(home: Path) -> str | None:
    """Who took the lease last; None where nobody ever did."""
    store = open_lease_store(home)
    holder = _read(store, max(store.generations(), default=0))
    return holder.owner if holder else None


def _read(store: Store, generation: int) -> Claim | None:
    try:
        return Claim.parse(store.read(generation)[0])
    except FileNotFoundError:
        return None


def _at_work(store: Store, generation: int, owner: str) -> str:
    """Who holds a generation against `owner`; empty where nobody does."""
    try:
        content, written = store.read(generation)
    except FileNotFoundError:
        return ""
    claim = Claim.parse(content)
    if claim.seconds == 0:
        return ""
    if claim.host == this_host():
        alive = claim.pid != os.getpid() and process_start(claim.pid) == claim.started
        return f"{claim.owner}, process {claim.pid}" if alive else ""
    left = written + claim.seconds - store.now()
    if claim.owner == owner or left <= 0:
        return ""
    return f"{claim.owner} on another host, for {left:.0f} s more unless it says that it lives"


def open_lease_store(home: Path) -> Store:
    """Where the lease of a site is kept."""
    if url := os.environ.get(MODELS_URL):
        return ObjectLeases(f"{url.rstrip('/')}/{FOLDER}")
    return FileLeases(Path(home) / FOLDER)


class FileLeases:
    """Generations as files, on this machine's disk or a network volume.

    Making one relies on `O_EXCL` alone, which NFS has had since version 3.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def generations(self) -> list[int]:  # noqa: D102
        return sorted(int(path.stem) for path in self._folder.glob("*.json"))

    def create(self, generation: int, content: bytes) -> bool:  # noqa: D102
        try:
            with self._path(generation).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            return False
        return True

    def write(self, generation: int, content: bytes) -> None:  # noqa: D102
        temporary = self._folder / f".{uuid.uuid4().hex}"
        temporary.write_bytes(content)
        temporary.replace(self._path(generation))

    def read(self, generation: int) -> tuple[bytes, float]:  # noqa: D102
        with self._path(generation).open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime

    def now(self) -> float:  # noqa: D102
        return written_now(self._folder)

    def remove(self, generation: int) -> None:  # noqa: D102
        self._path(generation).unlink(missing_ok=True)

    def _path(self, generation: int) -> Path:
        return self._folder / f"{generation:08d}.json"


class ObjectLeases:
    """Generations as objects, made by conditional PUT.

    Args:
        url: such as `s3://bucket/shop/models/lease`.
    """

    def __init__(self, url: str) -> None:
        self._filesystem, self._base = fsspec.url_to_fs(url, use_listings_cache=False)

    def generations(self) -> list[int]:  # noqa: D102
        paths = self._filesystem.glob(f"{self._base}/*.json")
        return sorted(int(Path(path).stem) for path in paths)

    def create(self, generation: int, content: bytes) -> bool:  # noqa: D102
        return put_if(self._filesystem, self._path(generation), content, etag=None)

    def write(self, generation: int, content: bytes) -> None:  # noqa: D102
        self._filesystem.pipe_file(self._path(generation), content)

    def read(self, generation: int) -> tuple[bytes, float]:  # noqa: D102
        path = self._path(generation)
        return self._filesystem.cat_file(path), self._written(path)

    def now(self) -> float:  # noqa: D102
        probe = f"{self._base}/{uuid.uuid4().hex}.now"
        self._filesystem.pipe_file(probe, b"")
        try:
            return self._written(probe)
        finally:
            self._filesystem.rm_file(probe)

    def remove(self, generation: int) -> None:  # noqa: D102
        self._filesystem.rm_file(self._path(generation))

    def _written(self, path: str) -> float:
        return self._filesystem.info(path, refresh=True)["LastModified"].timestamp()

    def _path(self, generation: int) -> str:
        return f"{self._base}/{generation:08d}.json"


def written_now(folder: Path) -> float:
    """The time of the file system that holds `folder`, which may be another machine's."""
    probe = folder / f".now-{uuid.uuid4().hex}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
