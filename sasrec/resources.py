"""What this process may use of its machine: memory and cores, as its container is allowed them.

A container sees the whole node's memory and cores; what it is granted is in its control group. Who
asks the node instead takes what others have, and is killed for memory or slowed down for cores.
"""

import os
from pathlib import Path
from typing import Any

import psutil

_PROC = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Version 1 says "no limit" by a number near 2**63."""
_ENOUGH_FOR_DUCKDB = 4_000_000_000
"""Bytes: more made nothing faster that was measured, since DuckDB spills to disk beyond them."""


def duckdb_settings(memory_limit: str | None = None) -> dict[str, Any]:
    """What every `duckdb.connect` is given as `config`: DuckDB's own default is the node's.

    Args:
        memory_limit: such as "2GB"; by default half of what this process may take, so that tables
            in Python have the other half.
    """
    limit = memory_limit or f"{min(_ENOUGH_FOR_DUCKDB, memory_bytes() // 2)}B"
    return {"memory_limit": limit, "threads": cores()}


def memory_bytes() -> int:
    """How much memory this process may take: its control groups' least limit, or the machine's."""
    limits = [*_values("memory.max", "memory"), *_values("memory.limit_in_bytes", "memory")]
    known = [int(limit) for limit in limits if limit.isdigit() and int(limit) < _UNLIMITED]
    return min([psutil.virtual_memory().total, *known])


def cores() -> int:
    """How many threads may compute at once, at least 1.

    The least of the cores this process is bound to, its control groups' quotas, rounded down, and
    `OMP_NUM_THREADS`, by which a platform says it that requests cores and sets no quota.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    allowed = [float(bound or 1)]
    for value in _values("cpu.max", "cpu"):
        quota, _, period = value.partition(" ")
        if quota.isdigit():
            allowed.append(int(quota) / int(period or 100_000))
    quotas = _values("cpu.cfs_quota_us", "cpu")
    for quota, period in zip(quotas, _values("cpu.cfs_period_us", "cpu"), strict=False):
        if int(quota) > 0:
            allowed.append(int(quota) / int(period))
    if (threads := os.environ.get("OMP_NUM_THREADS", "")).isdigit():
        allowed.append(float(threads))
    return max(1, int(min(allowed)))


def _values(name: str, controller: str) -> list[str]:
    """A file's content in this process's control group and in each one above it.

    In version 2 there is one hierarchy; in version 1 each controller has one under its own folder.
    In a container the group may be mounted as the root, where its path leads nowhere.
    """
    found = []
    for line in _PROC.read_text().splitlines() if _PROC.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _MOUNT / controllers if controllers else _MOUNT
        if controllers and not root.exists():
            root = _MOUNT / controller
        group = root / path.lstrip("/")
        for folder in dict.fromkeys([group, *group.parents, root]):
            if folder.is_relative_to(root) and (folder / name).exists():
                found.append((folder / name).read_text().strip())
    return found
