"""`python -m serving`: serve the champion of a site."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError, SettingsError
from serving.registry import RegistryError, open_registry
from serving.release.processes import (
    ServerFailed,
    check_port,
    command,
    environment,
    url_of,
)
from serving.security import LOOPBACK, ApiKeys, create_keys
from serving.settings import Settings, load_settings


def serve(
    home: Annotated[Path, typer.Option(help="The site to serve.")] = Path("var/simulated"),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 3000,
    workers: Annotated[int, typer.Option(help="Server processes.", min=1, max=64)] = 1,
    insecure: Annotated[bool, typer.Option(help="No API keys; loopback only.")] = False,
) -> None:
    """Serve recommendations over HTTP until Ctrl-C."""
    try:
        settings = load_settings().model_copy(update={"home": home, "insecure": insecure})
        champion = _champion(settings)
        if insecure and host not in LOOPBACK:
            raise SettingsError(f"--insecure serves loopback only, not {host}; drop one of the two")
        keys = None if insecure else create_keys(settings.api_keys_file)
        check_port(host, port)
    except (RegistryError, ServerFailed, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    # Only on the user's own screen: what a pod prints is a log that others read.
    shown = keys if host in LOOPBACK and sys.stdout.isatty() else None
    print(_welcome(url_of(host, port), champion, settings, shown), flush=True)
    arguments = command(host, port)
    os.execve(
        arguments[0],
        arguments,
        environment(home, SASREC_WORKERS=str(workers), SASREC_INSECURE=str(insecure)),
    )


def _champion(settings: Settings) -> Path:
    store = open_registry(settings.home, must_exist=True)
    version = store.aliases().champion
    if version is None:
        raise RegistryError(f"{settings.home}: no champion yet; run the pipeline first")
    return store.path(version)


def _welcome(url: str, champion: Path, settings: Settings, shown: ApiKeys | None) -> str:
    """Where to look, and three requests to paste: a new user, what they do, and what shifts.

    Args:
        shown: the keys, where they may be seen; else the requests read one from the key file.
    """
    key_file = shlex.quote(str(settings.api_keys_file))
    key = shown.admin[0] if shown else f"$(jq -r '.admin[0]' {key_file})"
    authorization = "" if settings.insecure else f' -H "Authorization: Bearer {key}"'
    post = f"-H 'Content-Type: application/json'{authorization} -d"
    item = Vocabulary.load(champion / "vocabulary.json").item_ids[0]
    ask = shlex.quote(json.dumps({"user_id": "new-user", "k": 5}))
    event = {"event_id": "event-1", "user_id": "new-user", "item_id": item}
    tell = shlex.quote(json.dumps(event))
    return f"""\
Serving version {champion.name}. Stop with Ctrl-C.

  console   {url}/{f"#key={key}" if shown else ""}
  API docs  {url}/docs
  metrics   {url}/metrics

Ask, say what the user did, and ask again:

  curl -s {url}/v1/recommend {post} {ask}
  curl -s {url}/v1/events {post} {tell}
  curl -s {url}/v1/recommend {post} {ask}
"""


if __name__ == "__main__":
    typer.run(serve)
