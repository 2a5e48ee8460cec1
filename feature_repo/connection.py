"""DuckDB as this package uses it: in memory up to a limit, beyond that in a folder."""

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb

MEMORY_LIMIT = "4GB"
"""Of DuckDB, beyond which it spills to disk."""


def connect(memory_limit: str, spill: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, up to `memory_limit` of it, and beyond that in the folder `spill`."""
    connection = duckdb.connect(config={"memory_limit": memory_limit})
    connection.execute("SET temp_directory = $1", [str(spill)])
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def text(value: str) -> str:
    """`value` as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def files(paths: Iterable[str | Path]) -> str:
    """Paths as a list literal for `read_parquet`, none of them taken for a pattern."""
    literal = [text(re.sub(r"([*?[])", r"[\1]", str(path))) for path in paths]
    return f"[{', '.join(literal)}]"
