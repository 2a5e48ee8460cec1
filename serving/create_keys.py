"""`python -m serving.create_keys FOLDER`: the files of the Kubernetes Secret `sasrec-api-keys`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sasrec.errors import DataError, SettingsError
from serving.security import create_keys

KEY_FILE, METRICS, ROLLOUT = "api_keys.json", "metrics", "rollout"


def write_secret(folder: Path) -> list[Path]:
    """Write new keys, and as files of their own those that others present; keep what exists.

    Returns:
        `api_keys.json`, which serving reads; `metrics`, which Prometheus presents; `rollout`, which
        the smoke test of a rollout presents: a `recommend` key that no client has.

    Raises:
        SettingsError: a key file that exists is broken, or holds no second `recommend` key.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = create_keys(folder / KEY_FILE, recommend=2)
    if len(keys.recommend) < 2 or not keys.metrics:
        raise SettingsError(f"{folder / KEY_FILE}: needs a metrics key and two recommend keys")
    _write(folder / METRICS, keys.metrics[0])
    _write(folder / ROLLOUT, keys.recommend[-1])
    return [folder / name for name in (KEY_FILE, METRICS, ROLLOUT)]


def _write(path: Path, key: str) -> None:
    """Readable by this user alone, and without a newline, which would be part of the key."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(key)


def main(folder: Annotated[Path, typer.Argument(help="Made if absent.")]) -> None:
    """Write the keys of a cluster's serving, and say how they become a Secret."""
    try:
        files = write_secret(folder)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    given = " ".join(f"--from-file={file}" for file in files)
    print(f"kubectl create secret generic sasrec-api-keys {given}")


if __name__ == "__main__":
    typer.run(main)
