"""`python -m deploy.monitor`: Prometheus, and the quality exporter, beside a running service."""

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer
import yaml

from sasrec.errors import DataError
from serving.release.lifetime import end_with_parent
from serving.release.processes import ServerFailed, check_port, stop_group
from serving.release.processes import environment as server_environment
from serving.security import ApiKeys

PROMETHEUS = Path(__file__).resolve().parent / "prometheus"
START_SECONDS = 60.0
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SHORTEST_RANGE = 5  # a rate needs two scrapes
NOW = "time()"


@contextlib.contextmanager
def monitoring(
    home: Path,
    service: str,
    *,
    state: Path,
    port: int,
    exporter_port: int,
    window: float = 86400,
    hurry: float = 1,
    settings: Mapping[str, str] | None = None,
    now: str = NOW,
) -> Iterator[str]:
    """The exporter and a Prometheus that scrapes it and the service; both gone on exit.

    Args:
        home: the site that the service serves.
        service: the service's host:port.
        state: Prometheus' configuration and data.
        window: seconds of the event log that the quality figures are over.
        hurry: divides every duration of the rules, for demonstrations and tests.
        settings: the service's environment variables, where they say where the site's log is.
        now: what the rules take for the time, where the site's clock is not Prometheus' own.

    Yields:
        The URL of Prometheus.

    Raises:
        ServerFailed: Prometheus is not installed, or one of the two did not start.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise ServerFailed(
            "prometheus is not on the PATH; install it (Debian: apt-get install prometheus, "
            "else https://prometheus.io/download)"
        )
    environment = server_environment(home, **(settings or {}))
    every = max(1.0, 15 / hurry)
    exporter, url = f"127.0.0.1:{exporter_port}", f"http://127.0.0.1:{port}"
    check_port("127.0.0.1", port)
    check_port("127.0.0.1", exporter_port)
    configuration = configure(state, home, service, exporter, every=every, hurry=hurry, now=now)
    export = [
        sys.executable, "-m", "serving.monitoring", "--home", str(home),
        "--port", str(exporter_port), "--window", str(window), "--every", str(every),
    ]  # fmt: skip
    scrape = [
        binary, f"--config.file={configuration}", f"--storage.tsdb.path={state / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", f"--web.console.templates={PROMETHEUS}/consoles",
        f"--web.console.libraries={PROMETHEUS}/consoles", "--log.level=warn",
    ]  # fmt: skip
    with (
        _running(export, environment, f"http://{exporter}/metrics", state / "exporter.log"),
        _running(scrape, environment, f"{url}/-/ready", state / "prometheus.log"),
    ):
        yield url


def configure(
    state: Path,
    home: Path,
    service: str,
    exporter: str,
    *,
    every: float,
    hurry: float,
    now: str = NOW,
) -> Path:
    """Write `deploy/prometheus/` for these addresses into `state`; returns prometheus.yml."""
    (state / "rules").mkdir(parents=True, exist_ok=True)
    for path in (PROMETHEUS / "rules").glob("*.yml"):
        rules = hurried(path.read_text(), hurry).replace(NOW, now)
        (state / "rules" / path.name).write_text(rules)
    configuration = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    interval = f"{every:.0f}s"
    configuration["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    jobs["sasrec"]["static_configs"] = [{"targets": [service]}]
    jobs["sasrec-quality"]["static_configs"] = [{"targets": [exporter]}]
    keys = home / "api_keys.json"
    if keys.exists():
        key = state / "metrics.key"
        key.touch(mode=0o600)
        key.write_text(ApiKeys.load(keys).metrics[0])
    else:
        del jobs["sasrec"]["authorization"]
    # Runs on this machine leave their metrics with the exporter: there is no Pushgateway.
    configuration["scrape_configs"] = [jobs["sasrec"], jobs["sasrec-quality"]]
    path = state / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    return path


def hurried(rules: str, factor: float) -> str:
    """The rules with every range and every `for` divided by `factor`; thresholds stay."""

    def shorter(shortest: int, found: re.Match[str]) -> str:
        seconds = int(found["number"]) * SECONDS[found["unit"]] / factor
        return f"{found['before']}{max(shortest, round(seconds))}s{found['after']}"

    duration = r"(?P<number>\d+)(?P<unit>[smhd])"
    ranges = rf"(?P<before>\[){duration}(?P<after>\])"
    holds = rf"(?P<before>\bfor: ){duration}(?P<after>)"
    if factor == 1:
        return rules
    rules = re.sub(ranges, lambda found: shorter(SHORTEST_RANGE, found), rules)
    return re.sub(holds, lambda found: shorter(1, found), rules)


@contextlib.contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], ready: str, log: Path
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    lines = log.read_text(errors="replace").strip().splitlines()
                    raise ServerFailed(f"{Path(command[0]).name}: {(lines or ['no output'])[-1]}")
                time.sleep(0.1)
            yield
        finally:
            stop_group(process)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def where_to_look(prometheus: str) -> str:
    """For the terminal."""
    return f"""\
  headline panels   {prometheus}/consoles/recommender.html
  alerts            {prometheus}/alerts
  queries           {prometheus}/graph
"""


def end_on_sigterm() -> None:
    """Unwind as Ctrl-C does, so that what was started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def monitor(
    home: Annotated[Path, typer.Option(help="The site that is served.")] = Path("var/simulated"),
    service: Annotated[str, typer.Option(help="host:port of the service.")] = "127.0.0.1:3000",
    port: Annotated[int, typer.Option(help="Port of Prometheus.")] = 9090,
    exporter_port: Annotated[int, typer.Option(help="Port of the quality exporter.")] = 3001,
) -> None:
    """Watch a running service until Ctrl-C."""
    end_on_sigterm()
    try:
        with monitoring(
            home,
            service,
            state=home / "prometheus",
            port=port,
            exporter_port=exporter_port,
        ) as prometheus:
            print(
                f"Watching {service}. Stop with Ctrl-C.\n\n{where_to_look(prometheus)}", flush=True
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    except (ServerFailed, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(monitor)
