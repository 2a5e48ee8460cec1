"""`python -m feature_repo.rebuild --home HOME`: the online history again, from the event log."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from feature_repo.event_log import Record, read_log
from feature_repo.history import Event, HistoryStore, open_history

BATCH = 10_000


def rebuild(history: HistoryStore, records: Iterable[Record]) -> int:
    """Append every logged event to `history`; returns how many changed something.

    Appending is exactly once and in any order, so this brings an empty store to the state it had,
    and one that missed events (Redis was down) up to date, while others append to it.
    """
    events = _events(records)
    appended = 0
    while batch := list(islice(events, BATCH)):
        appended += history.append_many(batch)
    return appended


def _events(records: Iterable[Record]) -> Iterator[tuple[str, Event]]:
    for record in records:
        if record["type"] == "event":
            yield (
                record["user_id"],
                Event(
                    record["event_id"],
                    record["item_id"],
                    record["event_type"],
                    record["timestamp"],
                ),
            )


def main(
    home: Annotated[Path, typer.Option(help="The site, e.g. var/simulated.")],
    history: Annotated[
        str | None, typer.Option(help="redis:// address; a file of the site by default.")
    ] = None,
) -> None:
    """Bring the online history to the state of the event log."""
    store = open_history(history or home / "feature_store" / "history.db")
    print(f"{rebuild(store, read_log(home / 'event_log'))} events applied")


if __name__ == "__main__":
    typer.run(main)
