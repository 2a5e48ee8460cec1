"""Which machine this is, for what several machines share and only one may change."""

import hashlib
import socket
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_host() -> str:
    """Eight hex digits: of this machine or pod, and of this boot of its kernel.

    Processes with the same answer see each other's file locks, whatever the volume.
    """
    boot = _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
    return hashlib.sha256(f"{socket.gethostname()} {boot}".encode()).hexdigest()[:8]


def process_start(pid: int) -> float | None:
    """When a process of this host began, seconds since the epoch; None if it is gone."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
