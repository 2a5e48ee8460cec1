"""What the service acknowledged, and whether a run learned from exactly that."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

NEGATIVE = "dislike"
Key = tuple[str, str, str]
"""User, item, event type."""


class Ledger:
    """Every event that the service acknowledged, in a file of its own, line by line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()

    def note(self, events: Iterable[dict[str, Any]]) -> None:
        """Add events that were answered with 202."""
        with self._path.open("a") as file:
            file.writelines(json.dumps(event) + "\n" for event in events)

    def events(self) -> list[dict[str, Any]]:
        """All of them, each event id once."""
        lines = map(json.loads, self._path.read_text().splitlines())
        return list({(line["user_id"], line["event_id"]): line for line in lines}.values())


@dataclass(frozen=True)
class Comparison:
    """What a run's training events are beside what they should be; counts of events."""

    expected: int
    found: int
    lost: int
    twice: int
    unknown: int
    of_forgotten: int

    @property
    def exact(self) -> bool:
        """Every acknowledged event is there once, and nothing else is."""
        return not (self.lost or self.twice or self.unknown or self.of_forgotten)


def compare(run_dir: Path, imported: Path, ledger: Ledger, forgotten: set[str]) -> Comparison:
    """The positive events that a run was given, beside the import and the ledger.

    Args:
        imported: the data set that the site began with.
        forgotten: users who are to be nowhere.
    """
    # A run that was killed and repeated has a folder for each attempt.
    artifact = max(run_dir.glob("artifacts/*/ingest/interactions"))
    found = _counted(pq.read_table(artifact, columns=["user_id", "item_id", "event_type"]))
    table = pq.read_table(imported / "interactions.parquet")
    expected = _counted(table) + Counter(
        (event["user_id"], event["item_id"], event["event_type"]) for event in ledger.events()
    )
    expected = Counter(
        {key: n for key, n in expected.items() if key[0] not in forgotten and key[2] != NEGATIVE}
    )
    more = found - expected
    return Comparison(
        expected=expected.total(),
        found=found.total(),
        lost=(expected - found).total(),
        twice=sum(n for key, n in more.items() if key in expected),
        unknown=sum(n for key, n in more.items() if key not in expected),
        of_forgotten=sum(n for key, n in found.items() if key[0] in forgotten),
    )


def _counted(table: Any) -> Counter[Key]:
    columns = (table[name].to_pylist() for name in ("user_id", "item_id", "event_type"))
    return Counter(zip(*columns, strict=True))
