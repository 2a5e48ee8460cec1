"""`python -m feature_repo.rebuild --home HOME`: the online history again, from the event log."""

from feature_repo.command_line import History, Home, Log, history_of, log_of, run
from feature_repo.event_log import read_log
from feature_repo.history import open_history
from feature_repo.history.apply import apply_events


def main(
    home: Home,
    history: History = None,
    log: Log = None,
) -> None:
    """Bring the online history to the state of the event log."""
    store = open_history(history_of(home, history))
    print(f"{apply_events(store, read_log(log_of(home, log)))} events applied")


if __name__ == "__main__":
    run(main)
