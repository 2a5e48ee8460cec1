"""`python -m feature_repo.rebuild --home HOME`: histories and live items, from the event log."""

from feature_repo.catalogue import open_catalogue
from feature_repo.catalogue.apply import apply_records
from feature_repo.command_line import History, Home, Log, history_of, log_of, run
from feature_repo.event_log import read_log
from feature_repo.history import open_history


def main(
    home: Home,
    history: History = None,
    log: Log = None,
) -> None:
    """Bring the online history and the live catalogue to the state of the event log."""
    location = history_of(home, history)
    store, catalogue = open_history(location), open_catalogue(location)
    applied = apply_records(store, catalogue, read_log(log_of(home, log)))
    print(f"{applied} events and items applied")


if __name__ == "__main__":
    run(main)
