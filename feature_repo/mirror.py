"""Mirror the online history into Feast, so that who reads Feast alone is fresh as well.

`python -m feature_repo.mirror --home HOME` runs until stopped.
"""

import fcntl
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from feature_repo.command_line import History, Home, feature_store_of, history_of, run
from feature_repo.history import HistoryStore, open_history
from feature_repo.online import OnlineHistory, merge
from feature_repo.store import current_generation, open_feature_store
from feature_repo.tables import HISTORY_LIMIT
from sasrec.errors import DataError

BATCH = 1_000


class Mirror:
    """The one writer of `user_sequence` rows between two publishes.

    Args:
        repo_dir: a published feature store.
        history: the online history; the users that it lists as changed are mirrored.

    Raises:
        DataError: another mirror of this store is running.
    """

    def __init__(self, repo_dir: Path, history: HistoryStore) -> None:
        self._repo_dir = Path(repo_dir)
        self._history = history
        self._generation: Path | None = None
        self._lock = (self._repo_dir / "mirror.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise DataError(f"{repo_dir}: another mirror is running; one is enough") from None

    def run_once(self) -> int:
        """Mirror a batch of changed users; returns how many. Killed midway, it is done again."""
        generation = current_generation(self._repo_dir)
        if generation != self._generation:
            self._history.mark_all()
            self._store = open_feature_store(generation)
            self._online = OnlineHistory(self._repo_dir, self._history)
            self._generation = generation
        changed = self._history.changed(BATCH)
        if changed:
            rows = pd.DataFrame([self._row(user_id) for user_id, _ in changed])
            self._store.write_to_online_store("user_sequence", rows)
            for user_id, revision in changed:
                self._history.settle(user_id, revision)
        return len(changed)

    def _row(self, user_id: str) -> dict[str, Any]:
        snapshot, written_at = self._online.snapshot(user_id)
        history = merge(snapshot, self._history.latest(user_id, HISTORY_LIMIT), HISTORY_LIMIT)
        # Strictly increasing per user, in the whole seconds that Feast's SQLite store keeps: its
        # Redis store drops a row that is not newer, and a late event leaves the last time as it is.
        moment = max(int(time.time()), written_at + 1)
        return {
            "user_id": user_id,
            "event_timestamp": pd.Timestamp(moment, unit="s", tz="UTC"),
            "item_ids": history.item_ids,
            "event_types": history.event_types,
            "timestamps": history.timestamps,
        }

    def close(self) -> None:
        """Let another mirror run."""
        self._lock.close()


def main(
    home: Home,
    history: History = None,
    interval: Annotated[float, typer.Option(help="Seconds between looks when idle.")] = 0.5,
) -> None:
    """Mirror the online history into Feast until stopped."""
    mirror = Mirror(feature_store_of(home), open_history(history_of(home, history)))
    while True:
        if not mirror.run_once():
            time.sleep(interval)


if __name__ == "__main__":
    run(main)
