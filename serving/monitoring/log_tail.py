"""Following the event log of all workers in the order in which things happened."""

from pathlib import Path

from feature_repo.event_codec import Record, frames, records
from feature_repo.event_log import segments

# Workers write their own segments; an event may reach its file before the list it answers.
SETTLE_MICROSECONDS = 2_000_000
CLOCKS_MICROSECONDS = 3_600_000_000  # by which a volume's clock and this host's may differ


class LogTail:
    """New records at each call, merged over segments by the time at which the service had them.

    Args:
        folder: the event log; may not exist yet.
        window: microseconds; a segment that was last written longer ago is passed over, so that a
            start takes as long after years as after a day. Without it all are read.
    """

    def __init__(self, folder: Path, *, window: int | None = None) -> None:
        self._folder = Path(folder)
        self._window = window
        self._offsets: dict[str, int] = {}
        self._waiting: list[Record] = []

    def read(self, *, now: int) -> list[Record]:
        """Whole records that nobody has seen yet, oldest first, up to a moment before `now`.

        Args:
            now: microseconds since the epoch.
        """
        for path in segments(self._folder):
            if self._window is None or not self._is_older(path, now - self._window):
                self._waiting += self._new_records(path)
        self._waiting.sort(key=arrival)
        settled = sum(arrival(record) <= now - SETTLE_MICROSECONDS for record in self._waiting)
        ready, self._waiting = self._waiting[:settled], self._waiting[settled:]
        return ready

    def _is_older(self, path: Path, moment: int) -> bool:
        written = path.stat().st_mtime * 1e6
        return path.name not in self._offsets and written < moment - CLOCKS_MICROSECONDS

    def _new_records(self, path: Path) -> list[Record]:
        offset = self._offsets.get(path.name, 0)
        if path.stat().st_size == offset:
            return []
        with path.open("rb") as file:
            file.seek(offset)
            found = list(frames(file.read()))
        self._offsets[path.name] = offset + sum(map(len, found))
        return list(records(found))


def arrival(record: Record) -> int:
    """When the service had a record, in microseconds: a client's clock decides nothing here."""
    return record["received_at"] if record["type"] == "event" else record["timestamp"]
