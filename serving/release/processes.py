"""Starting a real `bentoml serve` and stopping it, with every process it started."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from serving.registry.bento import bentoml_home
from serving.release.lifetime import end_with_parent

SERVICE = "serving.service:Recommender"
START_SECONDS = 120.0
STOP_SECONDS = 10.0


class ServerFailed(RuntimeError):
    """The server did not start or did not answer. One line."""


class PortInUse(ServerFailed):
    """Another process listens on the port."""


def command(host: str, port: int, service: str = SERVICE) -> list[str]:
    """The command line of a server."""
    return [
        sys.executable, "-m", "bentoml", "serve", service, "--host", host, "--port", str(port)
    ]  # fmt: skip


def environment(home: Path, **settings: str) -> dict[str, str]:
    """The environment of a server for a site, on top of this process's own."""
    home = Path(home).resolve()
    project = str(Path(__file__).resolve().parents[2])
    search = os.pathsep.join(filter(None, [project, os.environ.get("PYTHONPATH")]))
    return {
        "OMP_NUM_THREADS": "1",
        **os.environ,
        "SASREC_HOME": str(home),
        "BENTOML_HOME": str(bentoml_home(home)),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": search,
        **settings,
    }


def check_port(host: str, port: int) -> None:
    """Raise `PortInUse` when another process listens there."""
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise PortInUse(f"port {port} on {host}: {error.strerror}; choose another") from None


def url_of(host: str, port: int) -> str:
    """Where a server answers; an IPv6 address stands in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


@contextmanager
def running_server(
    home: Path,
    *,
    log: Path,
    host: str = "127.0.0.1",
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A server for a site, ready on entry and gone on exit, whatever happens inside.

    Args:
        log: where its output goes.
        port: a free one when absent.
        settings: more environment variables.

    Yields:
        The base URL.

    Raises:
        ServerFailed: it did not become ready; the message ends with its last line of output.
    """
    port = port or free_port(host)
    url = url_of(host, port)
    with running(command(host, port), environment(home, **(settings or {})), url, log):
        yield url


@contextmanager
def running(
    command_line: Sequence[str], env: Mapping[str, str], url: str, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers `url`/readyz, ready on entry and gone on exit with all it started.

    Raises:
        ServerFailed: it did not become ready; the message ends with its last line of output.
    """
    with log.open("wb") as output:
        # Its own session: one signal reaches the supervisor and all workers.
        process = subprocess.Popen(
            command_line,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            with _stopping_on_sigterm():
                _wait_until_ready(process, url, log)
                yield process
        finally:
            stop_group(process)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the process group to finish; kill what is left after `STOP_SECONDS`."""
    _signal_group(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _signal_group(process.pid, 0) and time.monotonic() < deadline:
        process.poll()
        time.sleep(0.02)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    # One client: a new one reads all certificates of the machine, 25 ms beside a starting server.
    with httpx.Client(timeout=2, trust_env=False) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                status = f"server exited with status {process.returncode}"
                raise ServerFailed(f"{status}: {_last_line(log)}")
            try:
                if client.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if failure := _failure(log):
                raise ServerFailed(f"server did not start: {failure}")
            time.sleep(0.1)
    raise ServerFailed(f"server was not ready after {START_SECONDS:.0f} s: {_last_line(log)}")


def _failure(log: Path) -> str | None:
    """Why a worker refused to start; BentoML's supervisor would start it again forever."""
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("sasrec: cannot serve: "):
            return line.removeprefix("sasrec: cannot serve: ")
    return None


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


@contextmanager
def _stopping_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that it unwinds like Ctrl-C does."""

    def stop(*_: object) -> None:
        raise SystemExit(143)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever owns it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
