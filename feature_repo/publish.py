"""Publish a feature store: build the offline tables, apply the definitions, load the online store.

Everything is written into a new generation folder; readers follow one symbolic link, which moves
last and in one rename. A publish killed at any instant changes nothing that a reader sees, and the
next publish removes what it left.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import duckdb
import pyarrow as pa

from feature_repo.definitions import definitions
from feature_repo.store import CUTOFFS, GENERATIONS, configure, make_current, open_store
from feature_repo.tables import build
from sasrec.schema import IMPRESSIONS, ITEMS, DataError

ONLINE_VIEWS = ["user_sequence", "user_stats", "item_stats"]
STEP = "INTERVAL 1 MICROSECOND"


@dataclass(frozen=True)
class PublishReport:
    """What was published.

    Attributes:
        generation: name of the folder under `generations/`.
        rows: rows of each offline table.
        events: interactions used; `future_events` lie after `as_of` and were left out.
        newest_event: the latest timestamp used.
        seconds: of building the tables, applying the definitions and loading the online store.
    """

    generation: str
    rows: dict[str, int]
    events: int
    future_events: int
    newest_event: datetime
    seconds: dict[str, float] = field(default_factory=dict)


def publish(
    repo_dir: Path,
    *,
    interactions: pa.Table | Path,
    items: pa.Table | Path | None,
    impressions: pa.Table | Path | None,
    cutoffs: pa.Table | None,
    as_of: datetime,
    profile: str = "local",
    memory_limit: str = "8GB",
) -> PublishReport:
    """Make `repo_dir` serve the features of `interactions`, and no event after `as_of`.

    Args:
        repo_dir: the feature store's folder; made if absent.
        interactions: table, or Parquet file or folder, of `sasrec.schema.INTERACTIONS`, cleaned:
            within a user, timestamps strictly increase.
        items: of `sasrec.schema.ITEMS`, or None.
        impressions: of `sasrec.schema.IMPRESSIONS`, or None.
        cutoffs: (user_id, cutoff): the moments at which `extract.sequences_as_of` will ask, on
            top of `as_of`, which is always kept. None keeps every event of every user, for any
            moment at all: quadratic in the length of a history, so for small data only.
        as_of: the moment the online store holds, with a time zone.
        profile: "local" or "production", see `feature_store.*.yaml`.
        memory_limit: of DuckDB, beyond which it spills to disk.

    Raises:
        DataError: two events of a user share a timestamp, or there are no events.
    """
    repo_dir = Path(repo_dir).resolve()
    (repo_dir / GENERATIONS).mkdir(parents=True, exist_ok=True)
    with _only_publisher(repo_dir):
        generation = repo_dir / GENERATIONS / datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        generation.mkdir()
        configure(generation, profile)
        seconds = {}

        started = time.monotonic()
        with duckdb.connect(config={"memory_limit": memory_limit}) as connection:
            connection.execute(f"SET temp_directory = '{generation / 'spill'}'")
            connection.execute("SET TimeZone = 'UTC'")
            events, future_events, newest = _load(
                connection, interactions, items, impressions, cutoffs, as_of
            )
            if cutoffs is not None:
                connection.table("cutoffs").write_parquet(str(generation / CUTOFFS))
            rows = build(connection, generation)
        seconds["build"] = time.monotonic() - started

        started = time.monotonic()
        store = open_store(generation)
        store.apply(definitions(generation))
        seconds["apply"] = time.monotonic() - started

        started = time.monotonic()
        with redirect_stdout(StringIO()):  # Feast reports progress by printing
            store.materialize(datetime(1970, 1, 1, tzinfo=UTC), as_of, feature_views=ONLINE_VIEWS)
        seconds["materialize"] = time.monotonic() - started

        make_current(repo_dir, generation)
        return PublishReport(generation.name, rows, events, future_events, newest, seconds)


def _load(
    connection: duckdb.DuckDBPyConnection,
    interactions: pa.Table | Path,
    items: pa.Table | Path | None,
    impressions: pa.Table | Path | None,
    cutoffs: pa.Table | None,
    as_of: datetime,
) -> tuple[int, int, datetime]:
    """Create what `tables` reads; returns events used, events after `as_of`, and the newest."""
    _view(connection, "interactions", interactions)
    _view(connection, "items", items if items is not None else ITEMS.empty_table())
    _view(
        connection,
        "impressions",
        impressions if impressions is not None else IMPRESSIONS.empty_table(),
    )
    connection.execute("SET VARIABLE as_of = $1::TIMESTAMPTZ", [as_of])
    connection.execute(
        "CREATE VIEW events AS SELECT user_id, item_id, timestamp, event_type FROM interactions"
        " WHERE timestamp <= getvariable('as_of')"
    )
    ties = connection.execute(
        "SELECT user_id, timestamp::VARCHAR FROM events GROUP BY ALL HAVING count(*) > 1 LIMIT 1"
    ).fetchall()
    if ties:
        raise DataError(
            f"interactions: user '{ties[0][0]}' has two events at {ties[0][1]}; "
            "clean the source first, which separates ties"
        )
    connection.execute(
        "CREATE TABLE cutoffs AS SELECT DISTINCT user_id, getvariable('as_of') + "
        f"{STEP} AS cutoff FROM events"
    )
    if cutoffs is None:
        connection.execute(f"INSERT INTO cutoffs SELECT user_id, timestamp + {STEP} FROM events")
    else:
        connection.register("requested", cutoffs)
        connection.execute("INSERT INTO cutoffs SELECT DISTINCT user_id, cutoff FROM requested")
    [(events, newest)] = connection.execute(
        "SELECT count(*), max(timestamp) FROM events"
    ).fetchall()
    if not events:
        raise DataError(f"interactions: no event at or before {as_of.isoformat()}")
    [(total,)] = connection.execute("SELECT count(*) FROM interactions").fetchall()
    return events, total - events, newest


def _view(connection: duckdb.DuckDBPyConnection, name: str, source: pa.Table | Path) -> None:
    if isinstance(source, pa.Table):
        connection.register(name, source)
    else:
        pattern = source / "**" / "*.parquet" if source.is_dir() else source
        connection.read_parquet(str(pattern)).create_view(name)


@contextmanager
def _only_publisher(repo_dir: Path) -> Iterator[None]:
    with (repo_dir / "publish.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{repo_dir}: another publish is running; wait for it") from None
        yield
