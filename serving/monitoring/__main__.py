"""`python -m serving.monitoring`: export the recommendation quality of a site to Prometheus."""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import CollectorRegistry, start_http_server

from feature_repo.temporary import own_temporary_files
from sasrec.errors import DataError
from serving.registry import RegistryError
from serving.settings import load_settings

if TYPE_CHECKING:
    from serving.monitoring.exporter import Exporter


def export(
    home: Annotated[Path, typer.Option(help="The site to watch.")] = Path("var/simulated"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3001,
    window: Annotated[float, typer.Option(help="Seconds of the log that count.")] = 86400,
    every: Annotated[float, typer.Option(help="Seconds between two updates.")] = 15,
) -> None:
    """Follow the event log and serve its figures on /metrics until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in order, as Ctrl-C does
    settings = load_settings().model_copy(update={"home": home})
    try:
        with own_temporary_files():
            from serving.monitoring.exporter import Exporter  # Feast makes a folder

            follow(Exporter(settings, window_seconds=window), host, port, every)
    except RegistryError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def follow(exporter: "Exporter", host: str, port: int, every: float) -> None:
    """Serve the figures, and update them every so many seconds."""
    exporter.update(now=time.time_ns() // 1000)
    registry = CollectorRegistry()
    registry.register(exporter)
    start_http_server(port, host, registry)
    wait = threading.Event().wait
    while not wait(every):
        try:
            exporter.update(now=time.time_ns() // 1000)
        except (DataError, OSError, RegistryError) as error:
            # The figures stay as they were; `RecoQualityStale` says so.
            print(f"quality: not updated: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(export)
