"""A server whose processes can be killed one by one."""

import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import httpx
import psutil

from benchmarks.faults.site import Site
from serving.release.lifetime import end_with_parent
from serving.release.processes import (
    START_SECONDS,
    ServerFailed,
    command,
    environment,
    free_port,
    stop_group,
)

# Reading the machine's takes 25 ms of a core that the server needs, and nothing here is encrypted.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Server:
    """`bentoml serve` for a site, started on entry and gone on exit.

    Args:
        log: where its output goes.
        settings: more environment variables.
    """

    def __init__(
        self, site: Site, log: Path, *, workers: int = 2, settings: Mapping[str, str] | None = None
    ) -> None:
        self.site = site
        self.log = log
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # A deadline that a busy machine keeps: what degrades is the fault, not the load.
        self._settings = {
            "SASREC_WORKERS": str(workers),
            "SASREC_DEADLINE_SECONDS": "2",
            **(settings or {}),
        }

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command("127.0.0.1", self.port),
                env=environment(self.site.home, **self._settings),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline and self._process.poll() is None:
                with suppress(httpx.TransportError):
                    if client.get("/readyz", timeout=5).status_code == 200:
                        return
                time.sleep(0.1)
        self.stop()
        raise ServerFailed(f"the server was not ready after {START_SECONDS:.0f} s: {self.log}")

    def wait_for_workers(self) -> None:
        """Wait until each worker serves; the server is ready as soon as one does."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            names = [name for name in self.series() if name.startswith("reco_champion_generation{")]
            if all(any(f'"{w.pid}"' in name for name in names) for w in self.workers()):
                return
            time.sleep(0.1)
        raise ServerFailed(f"a worker was not ready after {START_SECONDS:.0f} s: {self.log}")

    def stop(self) -> None:
        """End it as a rolling update does."""
        stop_group(self._process)

    def terminate(self) -> None:
        """Ask the supervisor to end, as Kubernetes does, and do not wait."""
        self._process.terminate()

    def has_ended(self, within: float) -> bool:
        """Whether the supervisor ends by itself within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within)
        return self._process.returncode is not None

    def kill(self) -> None:
        """End all its processes at once, without a word."""
        supervisor = psutil.Process(self._process.pid)
        supervisor.suspend()  # so that it starts no more of them
        children = supervisor.children()
        for process in [*children, supervisor]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(children)

    def kill_supervisor(self) -> None:
        """End the supervisor alone, without a word; its workers are to follow."""
        self._process.kill()
        self._process.wait()

    def workers(self) -> list[psutil.Process]:
        """Its worker processes, those that are starting included."""
        try:
            children = psutil.Process(self._process.pid).children()
            return [c for c in children if "_bentoml_impl.worker.service" in c.cmdline()]
        except (psutil.NoSuchProcess, psutil.ZombieProcess):  # ended meanwhile
            return []

    def client(self) -> httpx.Client:
        """A caller with the admin key."""
        return httpx.Client(
            base_url=self.url,
            headers=self.site.headers,
            timeout=30,
            trust_env=False,
            verify=NO_CERTIFICATES,
        )

    def series(self) -> dict[str, float]:
        """All series of `/metrics`."""
        with self.client() as client:
            text = client.get("/metrics").raise_for_status().text
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}
