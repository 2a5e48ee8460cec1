"""Memory and cores as a container is granted them, whatever its node has."""

import os
import re
from pathlib import Path

import duckdb
import psutil
import pytest

from sasrec import resources

GIB = 1 << 30


@pytest.fixture
def container(tmp_path, monkeypatch):
    """Write the control group that this process is in; files by path under the mount."""
    monkeypatch.setattr(resources, "_PROC", tmp_path / "cgroup")
    monkeypatch.setattr(resources, "_MOUNT", tmp_path / "fs")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 512 * GIB}))

    def write(lines, files):
        (tmp_path / "cgroup").write_text("\n".join(lines) + "\n")
        for path, content in files.items():
            (tmp_path / "fs" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "fs" / path).write_text(f"{content}\n")

    return write


POD = "kubepods/burstable/pod1/container"


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        # Version 2, with the container's own group mounted as the root, as pods have it.
        (["0::/"], {"memory.max": 2 * GIB, "cpu.max": "350000 100000"}),
        # Version 2, seen from the node; the limit is of the pod.
        (
            [f"0::/{POD}"],
            {
                f"{POD}/memory.max": "max",
                "kubepods/burstable/pod1/memory.max": 2 * GIB,
                f"{POD}/cpu.max": "350000 100000",
            },
        ),
        # Version 1, where the path is the node's and the mount is the container's own.
        (
            [f"4:memory:/{POD}", f"3:cpu,cpuacct:/{POD}", "0::/"],
            {
                "memory/memory.limit_in_bytes": 2 * GIB,
                "cpu,cpuacct/cpu.cfs_quota_us": 350_000,
                "cpu,cpuacct/cpu.cfs_period_us": 100_000,
            },
        ),
        (
            ["4:memory:/", "3:cpu,cpuacct:/"],
            {
                "memory/memory.limit_in_bytes": 2 * GIB,
                "cpu/cpu.cfs_quota_us": 350_000,
                "cpu/cpu.cfs_period_us": 100_000,
            },
        ),
    ],
    ids=["v2 own root", "v2 path", "v1 own root", "v1 linked controllers"],
)
def test_a_container_is_asked_and_not_its_node(container, lines, files):
    container(lines, files)
    assert resources.memory_bytes() == 2 * GIB
    assert resources.cores() == 3


def test_without_limits_it_is_the_machine_and_the_cores_it_is_bound_to(container):
    container(
        ["4:memory:/", "1:cpu:/", "0::/"],
        {
            "memory/memory.limit_in_bytes": 0x7FFFFFFFFFFFF000,
            "cpu/cpu.cfs_quota_us": -1,
            "cpu/cpu.cfs_period_us": 100_000,
            "memory.max": "max",
            "cpu.max": "max 100000",
        },
    )
    assert resources.memory_bytes() == 512 * GIB
    assert resources.cores() == 64


def test_less_than_a_core_is_one_thread_and_a_platform_may_say_fewer(container, monkeypatch):
    container(["0::/"], {"cpu.max": "50000 100000"})
    assert resources.cores() == 1
    container(["0::/"], {"cpu.max": "max 100000"})
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert resources.cores() == 4


def test_where_there_are_no_control_groups_the_machine_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PROC", tmp_path / "none")
    assert resources.memory_bytes() == psutil.virtual_memory().total


def test_duckdb_gets_half_of_a_container_and_never_more_than_it_can_use(container):
    container(["0::/"], {"memory.max": 2 * GIB, "cpu.max": "200000 100000"})
    assert resources.duckdb_settings() == {"memory_limit": f"{GIB}B", "threads": 2}
    with duckdb.connect(config=resources.duckdb_settings()) as connection:
        settings = "SELECT current_setting('memory_limit'), current_setting('threads')"
        assert connection.execute(settings).fetchall() == [("1.0 GiB", 2)]
    container(["0::/"], {"memory.max": 64 * GIB})
    assert resources.duckdb_settings()["memory_limit"] == "4000000000B"
    assert resources.duckdb_settings("3GB")["memory_limit"] == "3GB"


def test_duckdb_is_opened_nowhere_without_them():
    """Its own default is a share of the node: in a pod it is killed, where it could spill."""
    folders = ("sasrec", "feature_repo", "serving", "components")
    opened = [
        (path, line)
        for folder in folders
        for path in Path(folder).rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"duckdb\.(connect|execute|sql|query)\(", line)
    ]
    assert opened
    assert [(path, line) for path, line in opened if "duckdb_settings" not in line] == []
