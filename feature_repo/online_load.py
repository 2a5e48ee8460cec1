"""Load the online store with the newest row of each entity: as a stream, and only what changed.

Feast's own `materialize` holds all rows of a view in memory at once and writes every entity anew. A
test holds the content of the store to what it would have written.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value
from feast.value_type import ValueType

from feature_repo.connection import parquet_in
from feature_repo.store import ONLINE_DATABASE

ONLINE_VIEWS = {"user_sequence": "user_id", "user_stats": "user_id", "item_stats": "item_id"}
"""View -> its key."""

ROWS_PER_BATCH = 2_048
"""Entities in memory at a time, and in a transaction of SQLite."""

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def take_over(
    connection: duckdb.DuckDBPyConnection, generation: Path, previous: Path, as_of: datetime
) -> bool:
    """Copy what the store of `previous` holds, so that only what changed has to be written.

    Returns:
        Whether that could be done: not where an entity has gone, or where the store is a server.
    """
    database = previous / ONLINE_DATABASE
    if not database.exists():
        return False
    for view, key in ONLINE_VIEWS.items():
        _create_newest(connection, f"new_{view}", generation / view, key, as_of)
        _create_newest(connection, f"old_{view}", previous / view, key, as_of)
        [(gone,)] = connection.execute(
            f"SELECT count(*) FROM old_{view} ANTI JOIN new_{view} USING ({key})"
        ).fetchall()
        if gone:
            return False
    # A copy of SQLite's own, since the mirror may be writing there.
    with (
        closing(sqlite3.connect(database)) as old,
        closing(sqlite3.connect(generation / ONLINE_DATABASE)) as new,
    ):
        old.backup(new)
    return True


def load_online(
    connection: duckdb.DuckDBPyConnection,
    store: FeatureStore,
    generation: Path,
    as_of: datetime,
    taken_over: Path | None,
) -> int:
    """Write the rows that hold at `as_of`; returns how many.

    Args:
        taken_over: the generation whose rows the store holds already, if any.
    """
    written = 0
    for name, key in ONLINE_VIEWS.items():
        view = store.get_feature_view(name)
        _create_newest(connection, f"new_{name}", generation / name, key, as_of)
        wanted = f"new_{name}"
        if taken_over is not None:
            _create_newest(connection, f"old_{name}", taken_over / name, key, as_of)
            wanted = f"(FROM new_{name} ANTI JOIN old_{name} USING ({key}, event_timestamp))"
        rows = connection.sql(
            f"SELECT rows.* FROM read_parquet({parquet_in(generation / name)}) AS rows"
            f" SEMI JOIN {wanted} AS wanted USING ({key}, event_timestamp)"
        ).to_arrow_reader(ROWS_PER_BATCH)
        for batch in rows:
            store.provider.online_write_batch(
                store.config, view, _as_protos(batch, view, key), None
            )
            written += len(batch)
        store.registry.apply_materialization(view, store.project, _EVER, as_of)
    return written


def _create_newest(
    connection: duckdb.DuckDBPyConnection, name: str, folder: Path, key: str, as_of: datetime
) -> None:
    """Create the table `name`: (key, event_timestamp) of each entity's newest row at `as_of`."""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS"
        f" SELECT {key}, max(event_timestamp) AS event_timestamp"
        f" FROM read_parquet({parquet_in(folder)})"
        f" WHERE event_timestamp <= '{as_of.isoformat()}'::TIMESTAMPTZ GROUP BY {key}"
    )


def _as_protos(batch: pa.RecordBatch, view: FeatureView, key: str) -> list[tuple]:
    """(entity, feature -> value, event time, None) of each row, as Feast's stores take them."""
    names = [field.name for field in view.features]
    values = [_values(batch[field.name], field.dtype.to_value_type()) for field in view.features]
    entities = [
        EntityKey(join_keys=[key], entity_values=[value])
        for value in _values(batch[key], ValueType.STRING)
    ]
    moments = batch["event_timestamp"].to_pylist()
    return [
        (entity, dict(zip(names, row, strict=True)), moment, None)
        for entity, moment, *row in zip(entities, moments, *values, strict=True)
    ]


def _values(column: pa.Array, kind: ValueType) -> list[Value]:
    """As `feast.type_map` has it, which looks at each value to find out of what kind it is."""
    make = _MAKE[kind]
    return [Value() if value is None else make(value) for value in column.to_pylist()]


_MAKE: dict[ValueType, Callable[[Any], Value]] = {
    ValueType.STRING: lambda value: Value(string_val=value),
    ValueType.INT64: lambda value: Value(int64_val=value),
    ValueType.DOUBLE: lambda value: Value(double_val=value),
    ValueType.STRING_LIST: lambda value: Value(string_list_val=StringList(val=value)),
    ValueType.INT64_LIST: lambda value: Value(int64_list_val=Int64List(val=value)),
}
