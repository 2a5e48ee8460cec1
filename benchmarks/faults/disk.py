"""A disk that is full, and one whose fsync fails."""

import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.faults.server import Server
from benchmarks.faults.site import ITEM_IDS, Site
from feature_repo.event_log import read_log

DISK = "512k"
BALLAST_BYTES = 448 << 10
PATIENCE = 60.0
AFTERWARDS = 50  # events sent once the fault is over

# Found by every Python process of the server, before it imports anything of ours.
FAILING_FSYNC = """
import errno, os
real = os.fdatasync
def fdatasync(descriptor):
    if os.path.exists(os.environ["FSYNC_FAILS"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    real(descriptor)
os.fdatasync = fdatasync
"""


class CannotMount(RuntimeError):
    """This user may not mount a file system."""


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of `DISK` bytes in memory.

    Raises:
        CannotMount: only root, with the right to mount, can have one.
    """
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise CannotMount("only root, with the right to mount, can have a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_disk(site: Site, folder: Path, *, refusals: int) -> dict[str, Any]:
    """Send events until the disk is full, `refusals` times more, then make room."""
    with small_disk(folder / "disk") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))
        log = disk / "event_log"
        settings = {"SASREC_EVENT_LOG": str(log)}
        with Server(site, folder / "server.log", workers=1, settings=settings) as server:
            sender = _Sender(server)
            deadline = time.monotonic() + PATIENCE
            while sender.statuses[503] < refusals:
                assert time.monotonic() < deadline, sender.statuses
                sender.send()
            recommendations = _recommendations(server)
            files = len(list(log.iterdir()))
            ballast.unlink()
            result = sender.finish(recommendations, log)
            return result | {"files_left_by_refusals": files}


def fail_fsync(site: Site, folder: Path, *, refusals: int) -> dict[str, Any]:
    """Let fsync fail for `refusals` events, then let it work again."""
    (folder / "sitecustomize.py").write_text(FAILING_FSYNC)
    switch = folder / "fsync-fails"
    before = os.environ.get("PYTHONPATH")
    settings = {
        "FSYNC_FAILS": str(switch),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), str(Path.cwd()), before])),
    }
    with Server(site, folder / "server.log", workers=1, settings=settings) as server:
        sender = _Sender(server)
        for _ in range(AFTERWARDS):
            sender.send()
        switch.touch()
        for _ in range(refusals):
            sender.send()
        recommendations = _recommendations(server)
        switch.unlink()
        return sender.finish(recommendations, site.home / "event_log")


class _Sender:
    """Sends events once each, and keeps apart what was acknowledged and what was refused."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.statuses: Counter[int] = Counter()
        self.acknowledged: set[str] = set()
        self.refused: set[str] = set()

    def send(self) -> int:
        """The status of one event."""
        number = self.statuses.total()
        event = {
            "event_id": f"e{number}",
            "user_id": f"user-{number // 100}",
            "item_id": ITEM_IDS[number % len(ITEM_IDS)],
        }
        with self._server.client() as client:
            response = client.post("/v1/events", json=event)
        self.statuses[response.status_code] += 1
        known = self.acknowledged if response.status_code == 202 else self.refused
        known.add(event["event_id"])
        if response.status_code == 503:
            assert response.headers["Retry-After"] == "1"
        return response.status_code

    def finish(self, recommendations: Counter[int], log: Path) -> dict[str, Any]:
        """Send on when the fault is over, and compare with the log."""
        during = Counter(self.statuses)
        afterwards = Counter(self.send() for _ in range(AFTERWARDS))
        logged = {record["event_id"] for record in read_log(log) if record["type"] == "event"}
        return {
            "events_by_status": {str(status): n for status, n in sorted(during.items())},
            "recommendations_by_status_meanwhile": {
                str(status): n for status, n in sorted(recommendations.items())
            },
            "events_by_status_afterwards": {str(s): n for s, n in sorted(afterwards.items())},
            "acknowledged_and_lost": len(self.acknowledged - logged),
            "refused_and_logged": len(self.refused & logged),
        }


def _recommendations(server: Server) -> Counter[int]:
    with server.client() as client:
        return Counter(
            client.post("/v1/recommend", json={"recent_items": ITEM_IDS[n : n + 5]}).status_code
            for n in range(50)
        )
