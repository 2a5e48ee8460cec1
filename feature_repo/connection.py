"""DuckDB as this package uses it: in memory up to a limit, beyond that in a folder."""

import re
from collections.abc import Iterable
from pathlib import Path

import duckdb

from sasrec.resources import duckdb_settings


def connect(
    spill: Path | None = None, memory_limit: str | None = None
) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, within what this process's container has for it.

    Args:
        spill: folder for what does not fit; nowhere by default, for small questions.
        memory_limit: as in `duckdb_settings`.
    """
    connection = duckdb.connect(config=duckdb_settings(memory_limit))
    connection.execute(f"SET temp_directory = {text(str(spill or ''))}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def text(value: str) -> str:
    """`value` as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def files(paths: Iterable[str | Path]) -> str:
    """Paths as a list literal for `read_parquet`, none of them taken for a pattern."""
    return f"[{', '.join(text(no_pattern(path)) for path in paths)}]"


def parquet_in(folder: str | Path) -> str:
    """All `*.parquet` of a folder, whatever its name, as a literal for `read_parquet`."""
    return text(f"{no_pattern(folder)}/*.parquet")


def no_pattern(path: str | Path) -> str:
    """A path that DuckDB takes for itself alone."""
    return re.sub(r"([*?[])", r"[\1]", str(path))
