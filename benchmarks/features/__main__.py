"""Measure the feature store and write `benchmarks/results/features.json`.

    python -m benchmarks.features
    python -m benchmarks.features --sizes 1e6 1e7 1e8 --scratch DIR

A part that is done is written at once and kept by later runs of other parts.
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
from benchmarks.provenance import provenance

RESULTS = Path(__file__).parents[1] / "results" / "features.json"
PARTS = ("build", "histories", "push", "offline")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e6, 1e7])
    parser.add_argument("--default-store-events", type=float, default=1e6)
    parser.add_argument("--default-store-limit", type=float, default=300, help="seconds")
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    for part in arguments.parts:
        if part == "build":
            for size in arguments.sizes:
                _keep(f"build {size:.0e}", build.measure(int(size), arguments.scratch))
        elif part == "histories":
            with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
                _keep("history sqlite", histories.measure(Path(folder) / "history.db"))
            with redis_server(arguments.scratch) as url:
                _keep("history redis", histories.measure(url))
        elif part == "push":
            _keep("plain feast push", plain_feast.measure_push(arguments.scratch))
        else:
            _keep(
                "offline stores",
                plain_feast.measure_default_offline_store(
                    int(arguments.default_store_events),
                    arguments.scratch,
                    arguments.default_store_limit,
                ),
            )


def _keep(name: str, result: dict[str, Any]) -> None:
    """Add a result, with where it comes from, to those of earlier runs."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    origin = provenance() | {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "niceness": os.nice(0),
        "feast": version("feast"),
        "duckdb": version("duckdb"),
        "redis": version("redis"),
    }
    results[name] = {"result": result, "provenance": origin}
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    print(name, json.dumps(result, indent=2))


@contextmanager
def redis_server(scratch: Path) -> Iterator[str]:
    """A server on loopback that syncs every write to disk."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
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
