"""`python -m feature_repo.rebuild --home HOME`: the online history again, from the event log."""

from collections.abc import Iterable, Iterator
from itertools import islice

from feature_repo.command_line import History, Home, Log, history_of, log_of, run
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
    home: Home,
    history: History = None,
    log: Log = None,
) -> None:
    """Bring the online history to the state of the event log."""
    store = open_history(history_of(home, history))
    print(f"{rebuild(store, read_log(log_of(home, log)))} events applied")


if __name__ == "__main__":
    run(main)
