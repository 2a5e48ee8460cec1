"""`python -m deploy.demo`: live panels within a minute; `--incident`: an alert fires and clears."""

import asyncio
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from deploy.demo.crowd import Crowd
from deploy.demo.incidents import ALERT, Incident, happening
from deploy.monitor import end_on_sigterm, monitoring, where_to_look
from sasrec.data.simulated import Storefront
from sasrec.errors import DataError
from serving.registry import ModelStore
from serving.release.processes import ServerFailed, check_port, running_server
from serving.security import create_keys

PROJECT = Path(__file__).resolve().parents[2]
HURRY = 60  # a day of a rule is 24 minutes here
WINDOW = 120.0
PATIENCE = 300.0
SETTINGS = {
    # A rush is to be seen as latency, not as refusals or degraded lists.
    "SASREC_DEADLINE_SECONDS": "5",
    "SASREC_MAX_PENDING": "500",
    # In two minutes of a small crowd, 2 % would be too few slots to learn from.
    "SASREC_EPSILON": "0.1",
}


def demo(
    home: Annotated[Path, typer.Option(help="The demonstration's own site.")] = Path("var/demo"),
    incident: Annotated[Incident | None, typer.Option(help="Let this go wrong, then end.")] = None,
    visits: Annotated[float, typer.Option(help="Visits per second.")] = 4,
    port: Annotated[int, typer.Option(help="Port of the service.")] = 3000,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus.")] = 9090,
    exporter_port: Annotated[int, typer.Option(help="Port of the quality exporter.")] = 3001,
) -> None:
    """Serve a crowd of simulated users under Prometheus until Ctrl-C.

    Rules run 60 times faster than in production, and quality figures are over two minutes.
    """
    end_on_sigterm()
    warnings.simplefilter("ignore", DeprecationWarning)  # of libraries, about one another
    try:
        check_port("127.0.0.1", port)
        _have_champion(home)
        storefront = Storefront()
        storefront.source()
        with tempfile.TemporaryDirectory() as state:
            settings = SETTINGS | {
                # The crowd begins where the pipeline's data ends, every time.
                "SASREC_EVENT_LOG": f"{state}/event_log",
                "SASREC_HISTORY": f"{state}/history.db",
            }
            with (
                running_server(
                    home, log=Path(state) / "service.log", port=port, settings=settings
                ) as service,
                monitoring(
                    home,
                    service.removeprefix("http://"),
                    state=Path(state),
                    port=prometheus_port,
                    exporter_port=exporter_port,
                    window=WINDOW,
                    hurry=HURRY,
                    settings=settings,
                ) as prometheus,
            ):
                print(f"A crowd is here. Stop with Ctrl-C.\n\n{where_to_look(prometheus)}")
                sys.stdout.flush()
                asyncio.run(_live(home, service, prometheus, storefront, visits, incident))
    except KeyboardInterrupt:
        pass
    except (ServerFailed, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _have_champion(home: Path) -> None:
    if not (home / "models").is_dir() or ModelStore(home / "models").aliases().champion is None:
        print(f"{home} has no champion yet: the pipeline runs first.", flush=True)
        run = [sys.executable, str(PROJECT / "pipeline.py"), "run", "--home", str(home)]
        if subprocess.run(run, check=False).returncode:
            raise ServerFailed("the pipeline did not deploy a model")
    create_keys(home / "api_keys.json")


async def _live(
    home: Path,
    service: str,
    prometheus: str,
    storefront: Storefront,
    visits: float,
    incident: Incident | None,
) -> None:
    key = create_keys(home / "api_keys.json").admin[0]
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=600)
    async with httpx.AsyncClient(
        base_url=service, headers=headers, timeout=30, limits=limits, trust_env=False
    ) as client:
        crowd, stop = Crowd(storefront, client), asyncio.Event()
        visiting = asyncio.create_task(crowd.run(visits_per_second=visits, stop=stop))
        try:
            if incident is None:
                await asyncio.Event().wait()
            else:
                await _show(incident, home, crowd, prometheus)
        finally:
            stop.set()
            await visiting


async def _show(incident: Incident, home: Path, crowd: Crowd, prometheus: str) -> None:
    alert = ALERT[incident]
    async with httpx.AsyncClient(base_url=prometheus, timeout=30, trust_env=False) as client:
        alerts = Alerts(client)
        say(f"The crowd settles, so that there is something to compare with ({WINDOW / 2:.0f} s)")
        await asyncio.sleep(WINDOW / 2)
        say(f"Incident: {incident}")
        async with happening(incident, home, crowd):
            await alerts.until(lambda firing: alert in firing, f"{alert} to fire")
        say("Repaired")
        await alerts.until(lambda firing: alert not in firing, f"{alert} to clear")


class Alerts:
    """The alerts of a Prometheus; says what changes while it waits."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._known: dict[str, Any] = {}

    async def until(self, reached: Callable[[dict[str, Any]], bool], what: str) -> None:
        """Wait for a state of the firing alerts, by name.

        Raises:
            ServerFailed: it did not come within `PATIENCE` seconds.
        """
        say(f"Waiting for {what}")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if reached(await self._firing()):
                return
            await asyncio.sleep(1)
        raise ServerFailed(f"waited {PATIENCE:.0f} s in vain for {what}")

    async def _firing(self) -> dict[str, Any]:
        answer = (await self._client.get("/api/v1/alerts")).raise_for_status().json()
        firing = {
            alert["labels"]["alertname"]: alert
            for alert in answer["data"]["alerts"]
            if alert["state"] == "firing"
        }
        for name in sorted(firing.keys() - self._known.keys()):
            severity = firing[name]["labels"]["severity"]
            say(f"FIRING {name} ({severity}): {firing[name]['annotations']['summary']}")
        for name in sorted(self._known.keys() - firing.keys()):
            say(f"cleared {name}")
        self._known = firing
        return firing


def say(what: str) -> None:
    """One line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


if __name__ == "__main__":
    typer.run(demo)
