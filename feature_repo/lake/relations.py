"""The lake's tables as relations of DuckDB."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from feature_repo.connection import connect, files
from feature_repo.lake.lake import SCHEMAS, Lake


@contextmanager
def relations(
    lake: Lake, memory_limit: str | None = None, folder: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the lake's tables attached, which spills into a folder inside `folder`."""
    with TemporaryDirectory(dir=folder) as spill, connect(Path(spill), memory_limit) as connection:
        attach(connection, lake)
        yield connection


def attach(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Create the views `lake_interactions`, `lake_impressions` and `lake_items`.

    They show the tables as they are now. The partition column `day` is not among their columns.

    Raises:
        DataError: a data file is gone.
    """
    if not lake.is_local:
        connection.register_filesystem(lake.filesystem)
    for table, schema in SCHEMAS.items():
        if paths := lake.files(table):
            connection.execute(
                f"CREATE VIEW lake_{table} AS SELECT * FROM read_parquet({files(paths)},"
                f" union_by_name = {table == 'items'}, hive_partitioning = false)"
            )
        else:
            connection.register(f"lake_{table}", schema.empty_table())
