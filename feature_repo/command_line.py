"""What the commands of this package ask about a site; serving's variables answer as well."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from feature_repo.lease import LeaseLost
from sasrec.errors import DataError


def _existing(home: Path) -> Path:
    """A mistyped site has no user to forget, no skew and no log: say so instead."""
    if not home.is_dir():
        raise DataError(f"{home}: no such site")
    return home


Home = Annotated[
    Path,
    typer.Option(help="The site, e.g. var/simulated.", envvar="SASREC_HOME", callback=_existing),
]
History = Annotated[
    str | None,
    typer.Option(
        help="redis:// address of the online history; a file of the site by default.",
        envvar="SASREC_HISTORY",
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(help="The event log; a folder of the site by default.", envvar="SASREC_EVENT_LOG"),
]


def feature_store_of(home: Path) -> Path:
    """The site's feature store."""
    return home / "feature_store"


def history_of(home: Path, history: str | None) -> str | Path:
    """Where the site's online history is, for `open_history`."""
    return history or feature_store_of(home) / "history.db"


def log_of(home: Path, log: Path | None) -> Path:
    """Where the site's event log is."""
    return log or home / "event_log"


def end_process(reason: LeaseLost) -> None:
    """End a command whose lease on the site another one took over."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)


def run(command: Callable[..., None]) -> None:
    """Run a command; bad input ends in one line and exit status 2."""
    try:
        typer.run(command)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
