"""Training sequences from the feature store, point in time."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureStore

from feature_repo.connection import connect, no_pattern
from feature_repo.definitions import SERVICE
from feature_repo.publish import read_report
from feature_repo.store import CUTOFFS, bounded_memory, current_generation, open_feature_store
from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError

EVENTS_PER_PIECE = 4_000_000
"""Events that are asked of Feast at a time, which holds its whole answer in memory."""

SEQUENCES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("cutoff", TIMESTAMP, nullable=False),
        pa.field("item_ids", pa.list_(pa.string())),
        pa.field("event_types", pa.list_(pa.string())),
        pa.field("timestamps", pa.list_(TIMESTAMP)),
    ]
)


def sequences_as_of(
    repo_dir: Path, entities: pa.Table, *, memory_limit: str | None = None
) -> pa.Table:
    """Each user's history strictly before each cutoff, all in memory.

    Args:
        repo_dir: a published feature store.
        entities: (user_id string, cutoff timestamp[us, UTC]); a pair may be repeated.
        memory_limit: of the join, as in `store.connect`; the result comes on top.

    Returns:
        `SEQUENCES`: one row per row of `entities`, in the same order, oldest event first; lists
        are empty for a user without history, and hold at most `tables.HISTORY_LIMIT` events.

    Raises:
        DataError: nothing is published, or a cutoff is none of those the store was published for
            (its row would be stale).
    """
    pieces = list(stream_sequences(repo_dir, entities, memory_limit=memory_limit))
    return pa.concat_tables(pieces) if pieces else SEQUENCES.empty_table()


def stream_sequences(
    repo_dir: Path, entities: pa.Table, *, memory_limit: str | None = None
) -> Iterator[pa.Table]:
    """`sequences_as_of` in pieces of consecutive rows, of about `EVENTS_PER_PIECE` events each.

    Fastest where `entities` are in the order of users: a piece then reads few of their files.
    """
    generation = current_generation(repo_dir)
    _check_published(generation, entities)
    report = read_report(generation)
    rows = max(1, EVENTS_PER_PIECE * report["users"] // report["events"])
    store = open_feature_store(generation)
    with bounded_memory(generation, memory_limit):
        for start in range(0, len(entities), rows):
            yield _ask(store, entities.slice(start, rows))


def _ask(store: FeatureStore, entities: pa.Table) -> pa.Table:
    # Feast's join is inclusive, so ask one resolution step earlier; it keeps no order, so number.
    asked = entities.select(["user_id", "cutoff"]).to_pandas()
    asked["event_timestamp"] = asked["cutoff"] - timedelta(microseconds=1)
    asked["row"] = range(len(asked))
    found = store.get_historical_features(
        entity_df=asked[["user_id", "event_timestamp", "row"]],
        features=store.get_feature_service(SERVICE),
    ).to_arrow()
    found = found.sort_by("row")
    if found.num_rows != entities.num_rows:
        raise RuntimeError(f"Feast returned {found.num_rows} rows for {entities.num_rows} asked")
    return pa.table(
        [
            entities.column("user_id").cast(pa.string()),
            entities.column("cutoff").cast(TIMESTAMP),
            *(
                _lists(found.column(name), SEQUENCES.field(name).type)
                for name in ("item_ids", "event_types", "timestamps")
            ),
        ],
        schema=SEQUENCES,
    )


def current_entities(repo_dir: Path) -> tuple[datetime, pa.Table]:
    """The moment of the last publish, and every user just after it: what `stream_sequences` takes.

    Raises:
        DataError: nothing is published.
    """
    generation = current_generation(repo_dir)
    as_of = datetime.fromisoformat(read_report(generation)["as_of"])
    files = [no_pattern(path) for path in sorted((generation / "user_sequence").glob("*.parquet"))]
    with connect() as connection:
        rows = connection.read_parquet(files)
        asked = rows.project("user_id").distinct().order("user_id").to_arrow_table()
    cutoff = pa.scalar(as_of + timedelta(microseconds=1), TIMESTAMP)
    cutoffs = pa.repeat(cutoff, len(asked))
    return as_of, pa.table({"user_id": asked["user_id"], "cutoff": cutoffs})


def _lists(column: pa.ChunkedArray, dtype: pa.DataType) -> pa.ChunkedArray:
    """`column` cast to `dtype`, null lists (no row found) as empty ones."""
    return pc.fill_null(column.cast(dtype), pa.scalar([], dtype))


def _check_published(generation: Path, entities: pa.Table) -> None:
    if not (generation / CUTOFFS).exists():
        return
    with connect() as connection:
        connection.register("entities", entities)
        connection.read_parquet(no_pattern(generation / CUTOFFS)).create_view("cutoffs")
        missing = connection.execute(
            "SELECT user_id, cutoff::VARCHAR FROM entities"
            " SEMI JOIN cutoffs USING (user_id) ANTI JOIN cutoffs USING (user_id, cutoff) LIMIT 1"
        ).fetchall()
    if missing:
        raise DataError(
            f"entities: user '{missing[0][0]}' is asked at {missing[0][1]}, for which nothing was "
            "published; add the pair to the cutoffs of publish"
        )
