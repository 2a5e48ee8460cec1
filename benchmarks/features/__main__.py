"""Measure the feature store and write `benchmarks/results/features.json`.

    python -m benchmarks.features
    python -m benchmarks.features --parts build --sizes 1e6 1e7 1e8
    python -m benchmarks.features --parts            # only print the table

A part that is done is written at once and kept by later runs of other parts. `TMPDIR` is where the
data is made; 100 million interactions need some 10 GB.
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from benchmarks.features import build, histories, plain_feast
from benchmarks.features.table import table
from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "features.json"
CODE = ("feature_repo", "benchmarks/features")
PARTS = ("build", "histories", "push", "offline", "spark")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS[:-1])
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--default-store-events", type=float, default=1e6)
    parser.add_argument("--default-store-limit", type=float, default=300, help="seconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            _run(part, arguments, Path(folder))
    print(table(json.loads(RESULTS.read_text())))


def _run(part: str, arguments: argparse.Namespace, scratch: Path) -> None:
    if part == "build":
        for size in arguments.sizes:
            _keep(f"build {size:.0e}", build.measure(int(size), scratch))
    elif part == "spark":
        with redis_server(scratch, "everysec") as url:
            os.environ["REDIS_CONNECTION"] = url.removeprefix("redis://").removesuffix("/0")
            for size in arguments.sizes:
                _keep(f"spark {size:.0e}", build.measure(int(size), scratch, "cluster"))
    elif part == "histories":
        _keep("disk", histories.measure_disk(scratch))
        _keep("history sqlite", histories.measure(scratch / "history.db"))
        # What the store itself costs: the wait for the disk is none here.
        with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            _keep("history sqlite in memory", histories.measure(Path(memory) / "history.db"))
        for fsync in ("everysec", "always"):
            with redis_server(scratch, fsync) as url:
                _keep(f"history redis {fsync}", histories.measure(url))
    elif part == "push":
        _keep("plain feast push", plain_feast.measure_push(scratch))
    else:
        _keep(
            "offline stores",
            plain_feast.measure_default_offline_store(
                int(arguments.default_store_events), scratch, arguments.default_store_limit
            ),
        )


def _keep(name: str, result: dict[str, Any]) -> None:
    """Add a result, with where it comes from, to those of earlier runs."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    changed = subprocess.check_output(["git", "status", "--porcelain", "--", *CODE])
    origin = provenance() | {
        "uncommitted_changes": bool(changed),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "niceness": os.nice(0),
        "real_time": os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR),
        "feast": version("feast"),
        "duckdb": version("duckdb"),
        "redis": version("redis"),
    }
    results[name] = {"result": result, "provenance": origin}
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    print(name, json.dumps(result, indent=2))


@contextmanager
def redis_server(scratch: Path, fsync: str) -> Iterator[str]:
    """A server on loopback with an append-only file, synced `everysec` or `always`."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", fsync]
        server = subprocess.Popen([program, *options, *durable], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            for _ in range(200):
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
