"""`python -m feature_repo.intake --home HOME`: take in the service's log now, as each run does."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from feature_repo.command_line import Home, Log, end_process, log_of, run
from feature_repo.event_times import RETENTION
from feature_repo.lake.intake import take_in
from feature_repo.lake.lake import only_writer, open_lake
from feature_repo.lease import held


def main(
    home: Home,
    log: Log = None,
    retention: Annotated[float, typer.Option(help="Oldest event to take, days.")] = RETENTION.days,
) -> None:
    """Add what the service logged to the site's data, and say what was left out and why."""
    with held(home, "feature_repo.intake", end_process), only_writer(home):
        taken = take_in(
            open_lake(home),
            log_of(home, log),
            now=datetime.now(UTC),
            retention=timedelta(days=retention),
        )
    items = f", {taken.items:,} changes of items" if taken.items else ""
    print(f"taken in: {taken.events:,} events, {taken.slots:,} slots{items}")
    if taken.repeated:
        print(f"left out: {taken.repeated:,} × repeated")
    for reason, records in sorted(taken.quarantined.items()):
        print(f"left out: {records:,} × {reason}")
    for note in taken.notes:
        print(note)


if __name__ == "__main__":
    run(main)
