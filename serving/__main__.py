"""`python -m serving`: serve the champion of a site."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from serving.processes import PortInUse, check_port, command, environment
from serving.registry import ModelStore, RegistryError


def serve(
    home: Annotated[Path, typer.Option(help="The site to serve.")] = Path("var/simulated"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 3000,
    workers: Annotated[int, typer.Option(help="Server processes.")] = 1,
) -> None:
    """Serve recommendations over HTTP until Ctrl-C."""
    try:
        if not (home / "models").is_dir():
            raise RegistryError(f"{home}: no models here; run the pipeline first")
        version = ModelStore(home / "models").aliases().champion
        if version is None:
            raise RegistryError(f"{home}: no champion yet; run the pipeline first")
        check_port(host, port)
    except (RegistryError, PortInUse) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(_welcome(f"http://{host}:{port}", version), flush=True)
    arguments = command(host, port)
    os.execve(arguments[0], arguments, environment(home, SASREC_WORKERS=str(workers)))


def _welcome(url: str, version: str) -> str:
    return f"""\
Serving version {version}. Stop with Ctrl-C.

  console  {url}/
  API docs {url}/docs
  metrics  {url}/metrics

  curl -s {url}/v1/recommend -H 'Content-Type: application/json' -d '{{"user_id": "u1", "k": 5}}'
  curl -s {url}/v1/events -H 'Content-Type: application/json' \\
       -d '{{"event_id": "e1", "user_id": "u1", "item_id": "i1", "event_type": "click"}}'
"""


if __name__ == "__main__":
    typer.run(serve)
