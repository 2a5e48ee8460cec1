"""How the command line ends: exit statuses, and one line for what a person can mend."""

import sys

import typer

from components.runners.endpoint import ClusterError
from components.runners.local import Interrupted, StageFailed
from sasrec.errors import DataError

EXIT_CRASH, EXIT_BAD_INPUT, EXIT_HELD, EXIT_UNSEEN, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


def run_to_exit(app: typer.Typer) -> None:
    """Run the command line; bad input ends in one line and status 2."""
    try:
        app()
    except DataError as error:
        sys.exit(_fail(str(error), EXIT_BAD_INPUT))
    except (StageFailed, ClusterError) as error:
        sys.exit(_fail(str(error), EXIT_CRASH))
    except Interrupted:
        sys.exit(
            _fail(
                "interrupted; the previous champion still serves, type the same command to go on",
                EXIT_INTERRUPTED,
            )
        )


def _fail(message: str, status: int) -> int:
    typer.echo(f"error: {message}", err=True)
    return status
