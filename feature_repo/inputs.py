"""The relations that `tables` reads, from tables in memory, Parquet files, or partitions by day."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_repo.connection import no_pattern, parquet_in
from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, check

COLUMNS = ["user_id", "item_id", "timestamp", "event_type"]
STEP = "INTERVAL 1 MICROSECOND"


@dataclass(frozen=True)
class Partitions:
    """Interactions as Parquet files of a folder that grows, such as one file a day.

    Attributes:
        known: file name -> size and modification time, of all files that can be read.
        new: those that the last publish had not read.
        broken: file name -> why it cannot be read. It is tried again by the next publish.
        incremental: what the last publish read is unchanged, so that `new` is all there is to do.
    """

    known: dict[str, str]
    new: list[Path]
    broken: dict[str, str]
    incremental: bool


def write_days(interactions: pa.Table, folder: Path) -> None:
    """Write `folder/day=YYYY-MM-DD/<digest of the content>.parquet` for each day (UTC).

    A day whose content is already there is not written again, so that the next publish reads the
    new days alone.
    """
    days = pc.strftime(interactions["timestamp"], format="%Y-%m-%d")
    for day in pc.unique(days).to_pylist():
        events = interactions.filter(pc.equal(days, day)).sort_by(
            [("user_id", "ascending"), ("timestamp", "ascending")]
        )
        digest = sha256()
        for batch in events.select(COLUMNS).combine_chunks().to_batches():
            digest.update(batch.serialize())
        path = folder / f"day={day}" / f"{digest.hexdigest()[:16]}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(events, path.with_suffix(".partial"))
            path.with_suffix(".partial").replace(path)


def find_partitions(folder: Path, previous: dict[str, str]) -> Partitions:
    """The files of `folder`; `previous` are those of the last publish, or empty to read all."""
    files = sorted(folder.rglob("*.parquet"))
    stamps = {
        str(path.relative_to(folder)): f"{path.stat().st_size}-{path.stat().st_mtime_ns}"
        for path in files
    }
    incremental = bool(previous) and previous.items() <= stamps.items()
    new = [name for name in stamps if not incremental or name not in previous]
    broken = {name: problem for name in new if (problem := _problem(folder / name))}
    return Partitions(
        {name: stamp for name, stamp in stamps.items() if name not in broken},
        [folder / name for name in new if name not in broken],
        broken,
        incremental,
    )


def _problem(path: Path) -> str | None:
    try:
        check(pq.read_schema(path).empty_table(), INTERACTIONS, source=path.name)
    except (OSError, ValueError) as error:  # DataError and ArrowInvalid are ValueErrors
        return str(error).splitlines()[0]
    return None


def load(
    connection: duckdb.DuckDBPyConnection,
    *,
    interactions: pa.Table | Path | list[Path],
    items: pa.Table | Path | None,
    impressions: pa.Table | Path | None,
    cutoffs: pa.Table | None,
    as_of: datetime,
    histories: Path | None,
) -> None:
    """Create the relations that `tables` reads, and `interactions`, of which `events` is a part.

    Events after `as_of`, and those with a null in one of `COLUMNS`, are in `interactions` alone.

    Args:
        interactions: in memory, a Parquet file or folder, or several files.
        cutoffs: None for every event of every user.
        histories: the generation that knows what happened before `interactions`, if any.
    """
    connection.execute("SET VARIABLE as_of = $1::TIMESTAMPTZ", [as_of])
    _view(connection, "interactions", interactions, INTERACTIONS)
    _view(connection, "items", ITEMS.empty_table() if items is None else items, ITEMS)
    _view(
        connection,
        "impressions",
        IMPRESSIONS.empty_table() if impressions is None else impressions,
        IMPRESSIONS,
    )
    connection.execute(
        f"CREATE VIEW events AS SELECT {', '.join(COLUMNS)} FROM interactions"
        " WHERE timestamp <= getvariable('as_of')"
        f" AND {' AND '.join(f'{name} IS NOT NULL' for name in COLUMNS)}"
    )
    if histories is None:
        connection.execute(
            "CREATE VIEW histories AS SELECT NULL::VARCHAR AS user_id, NULL::VARCHAR[] AS item_ids,"
            " NULL::VARCHAR[] AS event_types, NULL::BIGINT[] AS timestamps WHERE false"
        )
    else:
        create_latest(connection, "histories", histories)
    connection.execute(
        "CREATE TABLE cutoffs AS"
        f" SELECT user_id, getvariable('as_of') + {STEP} AS cutoff"
        " FROM (SELECT user_id FROM events UNION SELECT user_id FROM histories)"
    )
    if cutoffs is None:
        connection.execute(
            f"INSERT INTO cutoffs SELECT user_id, timestamp + {STEP} FROM events UNION"
            f" SELECT user_id, make_timestamptz(unnest(timestamps)) + {STEP} FROM histories"
        )
    else:
        connection.register("requested", cutoffs)
        connection.execute("INSERT INTO cutoffs SELECT DISTINCT user_id, cutoff FROM requested")


def create_latest(connection: duckdb.DuckDBPyConnection, view: str, generation: Path) -> None:
    """Create `view`: each user's whole history in a generation, as `user_sequence` has it."""
    rows = f"read_parquet({parquet_in(generation / 'user_sequence')})"
    connection.execute(
        f"CREATE VIEW {view} AS SELECT * FROM {rows} SEMI JOIN"
        f" (SELECT user_id, max(event_timestamp) AS event_timestamp FROM {rows} GROUP BY user_id)"
        " USING (user_id, event_timestamp)"
    )


def _view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: pa.Table | Path | list[Path],
    schema: pa.Schema,
) -> None:
    if isinstance(source, Path) and source.is_dir():
        source = sorted(source.rglob("*.parquet"))
    if source == []:
        source = schema.empty_table()
    if isinstance(source, pa.Table):
        connection.register(name, source)
    else:
        files = source if isinstance(source, list) else [source]
        connection.read_parquet(list(map(no_pattern, files))).create_view(name)
