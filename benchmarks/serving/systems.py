"""The servers under test, each started as its users would start it, with two worker processes."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.load import Plan, accepted
from benchmarks.serving.site import Site
from serving.release.processes import START_SECONDS, command, environment, free_port, running

HOST = "127.0.0.1"
WORKERS = 2
OURS = "ours"
BENTOML = "bentoml_api"
FASTAPI = "fastapi"


@dataclass(frozen=True)
class Running:
    """A server that is up.

    Attributes:
        pid: of the process that supervises its workers.
    """

    name: str
    port: int
    path: str
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its base URL."""
        return _url(self.port)

    def load(self, bodies: Path, **plan: Any) -> dict[str, Any]:
        """Send it load from another process; `plan` as `benchmarks.serving.load.Plan` has it."""
        full = Plan(
            port=self.port,
            path=self.path,
            server=self.pid,
            workers=WORKERS,
            headers=dict(self.headers),
            bodies=bodies,
            **plan,
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        result, _ = process.communicate(full.model_dump_json().encode())
        if process.returncode:
            raise RuntimeError(f"the load generator failed on {self.name}")
        return json.loads(result)

    def workers(self) -> list[psutil.Process]:
        """The processes that hold a model: those with most memory."""
        family = psutil.Process(self.pid).children(recursive=True)
        return sorted(family, key=lambda process: -process.memory_info().rss)[:WORKERS]

    def wait_for_workers(self) -> None:
        """Return once every worker accepts: the first one alone makes a server look ready."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with ExitStack() as stack:
                for _ in range(8 * WORKERS):
                    stack.enter_context(socket.create_connection((HOST, self.port)))
                    time.sleep(0.01)
                if len(accepted(self.pid, self.port)) == WORKERS:
                    return
        raise RuntimeError(f"{self.name}: {WORKERS} workers were not ready in {START_SECONDS} s")


@contextmanager
def ours(site: Site, logs: Path, **settings: str) -> Iterator[Running]:
    """Our service as `make serve` runs it: keys, exploration, metrics, event log and all."""
    port = free_port()
    env = environment(site.home, SASREC_WORKERS=str(WORKERS), **settings)
    headers = {"Authorization": f"Bearer {site.key}"}
    with running(command(HOST, port), env, _url(port), logs / "ours.log") as process:
        yield _ready(Running(OURS, port, "/v1/recommend", process.pid, headers))


@contextmanager
def bentoml_api(site: Site, logs: Path) -> Iterator[Running]:
    """`@bentoml.api` with defaults."""
    port = free_port()
    line = command(HOST, port, "benchmarks.serving.peers.bentoml_service:Peer")
    with running(line, _peer_environment(site), _url(port), logs / "bentoml.log") as process:
        yield _ready(Running(BENTOML, port, "/recommend", process.pid))


@contextmanager
def fastapi(site: Site, logs: Path) -> Iterator[Running]:
    """FastAPI and uvicorn, without an access log."""
    port = free_port()
    line = [
        *(sys.executable, "-m", "uvicorn", "benchmarks.serving.peers.fastapi_app:app"),
        *("--port", str(port), "--workers", str(WORKERS), "--no-access-log"),
    ]
    with running(line, _peer_environment(site), _url(port), logs / "fastapi.log") as process:
        yield _ready(Running(FASTAPI, port, "/v1/recommend", process.pid))


def _ready(server: Running) -> Running:
    server.wait_for_workers()
    return server


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _peer_environment(site: Site) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "BENTOML_HOME": str(site.home / "peer"),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENCHMARK_MODEL": str(site.model),
    }
