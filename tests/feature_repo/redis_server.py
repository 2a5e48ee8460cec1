"""A real Redis for the tests: installed if need be, started on a free loopback port, stopped."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis


def require_redis() -> str:
    """The server's path; installs the Debian package when root, else skips saying why."""
    found = shutil.which("redis-server")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # policy-rc.d keeps the package from starting a server of its own.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
            subprocess.run(
                ["apt-get", "-qq", *command], env=environment, capture_output=True, check=False
            )
        found = shutil.which("redis-server")
    if found is None:
        pytest.skip("needs redis-server, which could not be installed (Debian: redis-server)")
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_redis(folder: Path, port: int | None = None) -> Iterator[str]:
    """A server that syncs every write to `folder`; yields its URL. It ends by a kill."""
    port = port or free_port()
    server = subprocess.Popen(
        [
            require_redis(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        ],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with redis.Redis(port=port) as client:
            _wait_until_ready(client)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.kill()
        server.wait()


def _wait_until_ready(client: redis.Redis) -> None:
    for _ in range(200):
        try:
            client.ping()
            return
        except redis.ConnectionError:
            time.sleep(0.05)
    raise TimeoutError("redis-server did not start within 10 s")
