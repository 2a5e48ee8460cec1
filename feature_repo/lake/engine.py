"""What runs the statements of `clean` and `split`: DuckDB here, Spark in the profile `cluster`.

The statements are written in what both understand; the little in which they differ is here. Times
are BIGINT microseconds inside them.
"""

from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from feature_repo.connection import files, text


class Engine(Protocol):
    """A place where statements run.

    Attributes:
        micros: a format that makes microseconds of a timestamp.
        timestamp: a format that makes a timestamp of microseconds.
        pair: a hash of two columns.
    """

    micros: str
    timestamp: str
    pair: str

    def register(self, name: str, table: pa.Table) -> None:
        """Make a small table known by a name."""
        ...

    def view(self, name: str, query: str) -> None:
        """Name a query, which runs again whenever it is read."""
        ...

    def table(self, name: str, query: str) -> None:
        """Name the result of a query."""
        ...

    def write(self, query: str, path: Path) -> None:
        """Write the result to `path` as Parquet, in its order."""
        ...

    def read(self, name: str, path: Path) -> None:
        """Name what `write` wrote."""
        ...

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A small result."""
        ...

    def columns(self, name: str) -> list[str]:
        """Of a relation."""
        ...

    def quote(self, column: str) -> str:
        """A column's name as an identifier."""
        ...


class DuckDB:
    """Statements on one machine, out of core.

    Args:
        connection: with the lake's relations, see `relations.attach`.
    """

    micros = "epoch_us({})"
    timestamp = "make_timestamptz({})"
    pair = "hash({}, {})"

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def register(self, name: str, table: pa.Table) -> None:
        """See `Engine`."""
        self._connection.register(name, table)

    def view(self, name: str, query: str) -> None:
        """See `Engine`."""
        self._connection.execute(f"CREATE OR REPLACE VIEW {name} AS {query}")

    def table(self, name: str, query: str) -> None:
        """See `Engine`."""
        self._connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")

    def write(self, query: str, path: Path) -> None:
        """See `Engine`; one file."""
        self._connection.execute(
            f"COPY ({query}) TO {text(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        )

    def read(self, name: str, path: Path) -> None:
        """See `Engine`."""
        self.view(name, f"SELECT * FROM read_parquet({files([path])})")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """See `Engine`."""
        return self._connection.execute(query).fetchall()

    def columns(self, name: str) -> list[str]:
        """See `Engine`."""
        return self._connection.table(name).columns

    def quote(self, column: str) -> str:
        """See `Engine`."""
        return '"' + column.replace('"', '""') + '"'
