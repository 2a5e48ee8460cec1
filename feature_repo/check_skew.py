"""`python -m feature_repo.check_skew --home HOME`: does serving use what training would see?

For sampled users, the sequence that the offline tables give as of the last publish is compared
with what a request would be answered from, up to that moment.
"""

import random
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
import typer

from feature_repo.command_line import History, Home, feature_store_of, history_of, run
from feature_repo.connection import parquet_in
from feature_repo.extract import sequences_as_of
from feature_repo.history import HistoryStore, open_history
from feature_repo.history.protocol import LIMIT
from feature_repo.online import OnlineHistory, UserHistory, merge
from feature_repo.publish import read_report
from feature_repo.store import connect, current_generation
from feature_repo.tables import HISTORY_LIMIT
from sasrec.data.schema import TIMESTAMP

Kind = Literal["missing online", "only online", "late"]


class Difference(NamedTuple):
    """An event of one side alone.

    `kind` is "late" for one that serving holds since it was appended, and that the next publish
    brings offline: the delay that an incremental system has, not a skew.
    """

    user_id: str
    kind: Kind
    timestamp: int
    event_type: str
    item_id: str


@dataclass(frozen=True)
class SkewReport:
    """Attributes: users compared, those with a skew, and every difference, late events included."""

    users: int
    skewed_users: int
    differences: list[Difference]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def check_skew(
    repo_dir: Path, history: HistoryStore, *, sample: int = 200, seed: int = 0
) -> SkewReport:
    """Compare `sample` users, chosen by `seed`, among those in the offline tables.

    Raises:
        DataError: nothing is published.
    """
    generation = current_generation(repo_dir)
    as_of = datetime.fromisoformat(read_report(generation)["as_of"])
    users = _sample_users(generation, sample, seed)
    cutoff = as_of + timedelta(microseconds=1)
    offline = sequences_as_of(
        repo_dir, pa.table({"user_id": users, "cutoff": pa.array([cutoff] * len(users), TIMESTAMP)})
    )
    online = OnlineHistory(repo_dir, history)
    until = int(pa.scalar(as_of, TIMESTAMP).value)
    differences = []
    for row in offline.to_pylist(maps_as_pydicts="strict"):
        trained = {
            (int(pa.scalar(moment, TIMESTAMP).value), kind, item)
            for moment, kind, item in zip(
                row["timestamps"], row["event_types"], row["item_ids"], strict=True
            )
        }
        served = _events(online.read(row["user_id"], HISTORY_LIMIT), until)
        tail = history.latest(row["user_id"], LIMIT)
        appended = _events(merge(UserHistory([], [], []), tail, LIMIT), until)
        for event in sorted(trained ^ served):
            kind: Kind = "missing online" if event in trained else "only online"
            if event in appended:
                kind = "late"
            differences.append(Difference(row["user_id"], kind, *event))
    skewed = {difference.user_id for difference in differences if difference.kind != "late"}
    return SkewReport(len(users), len(skewed), differences)


def _events(history: UserHistory, until: int) -> set[tuple[int, str, str]]:
    events = zip(history.timestamps, history.event_types, history.item_ids, strict=True)
    return {event for event in events if event[0] <= until}


def _sample_users(generation: Path, sample: int, seed: int) -> list[str]:
    with connect() as connection:
        rows = connection.execute(
            f"SELECT DISTINCT user_id FROM {parquet_in(generation / 'user_stats')} ORDER BY user_id"
        ).fetchall()
    users = [user_id for (user_id,) in rows]
    return random.Random(seed).sample(users, min(sample, len(users)))


def main(
    home: Home,
    history: History = None,
    sample: Annotated[int, typer.Option(help="Users to compare.")] = 200,
    seed: Annotated[int, typer.Option(help="Which users.")] = 0,
) -> None:
    """Print every difference; exit 1 if a user is skewed."""
    store = open_history(history_of(home, history))
    report = check_skew(feature_store_of(home), store, sample=sample, seed=seed)
    for difference in report.differences:
        print(*difference, sep="\t")
    print(f"{report.skewed_users} of {report.users} users are skewed")
    raise typer.Exit(report.skewed_users > 0)


if __name__ == "__main__":
    run(main)
