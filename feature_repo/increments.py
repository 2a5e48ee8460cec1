"""Cleaned interactions as a folder that grows: what a run adds to the last one is one more file.

A run hands over all its interactions in one file. Most were there the last time, and a publish that
is told which are new reads only these. Days tell: a day whose digest is the same has not changed.
Of the others, the events that are not in the folder yet go into a new file. Where an event that is
in the folder has gone or moved, nothing can be added that would undo it, and all is written anew.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from feature_repo.connection import files, no_pattern, text
from feature_repo.inputs import COLUMNS
from feature_repo.store import connect

INDEX = "index.json"
_EVENT = ", ".join(COLUMNS)
_DAY = "strftime(timestamp, '%Y-%m-%d')"


@dataclass(frozen=True)
class _Index:
    """What the folder holds: file name -> size and modification time, day -> digest."""

    files: dict[str, str]
    days: dict[str, str]


def add_new(
    interactions: Path, folder: Path, spill: Path, *, memory_limit: str | None = None
) -> int:
    """Make `folder` hold the events of `interactions`; returns how many were written.

    Killed at any instant, it leaves files that the next call removes or uses.

    Args:
        interactions: a Parquet file or a folder of them, of `sasrec.data.schema.INTERACTIONS`,
            cleaned: within a user, timestamps strictly increase.
        folder: made if absent; whoever reads it takes its Parquet files. None is ever rewritten.
        spill: folder for what does not fit `memory_limit`, by default what the container has.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = _read_index(folder)
    _remove_others(folder, index)
    with connect(spill, memory_limit) as connection:
        sources = (
            sorted(interactions.rglob("*.parquet")) if interactions.is_dir() else [interactions]
        )
        connection.read_parquet(list(map(no_pattern, sources))).create_view("wanted")
        days = _digests(connection)
        changed = [day for day, digest in days.items() if index.days.get(day) != digest]
        rows = 0
        if not index.days.keys() <= days.keys() or not _still_there(
            connection, folder, index, [day for day in changed if day in index.days]
        ):
            index = _Index({}, {})
            changed = list(days)
        if changed:
            query = "FROM wanted"
            if index.files:
                query = f"FROM changed ANTI JOIN present USING ({_EVENT})"
                _select_days(connection, folder, index, changed)
            rows, name = _write(connection, query, folder, changed)
            index = _Index(index.files | ({name: _stamp(folder / name)} if rows else {}), days)
            _write_index(folder, index)
            _remove_others(folder, index)
    return rows


def _digests(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Day -> a digest of its events in any order: two sums of 64-bit hashes, and their number."""
    rows = connection.execute(
        f"SELECT {_DAY} AS day, count(*) || '-' || bit_xor(hash({_EVENT}))"
        f" || '-' || sum(hash({_EVENT}, 1)) FROM wanted GROUP BY day ORDER BY day"
    ).fetchall()
    return dict(rows)


def _still_there(
    connection: duckdb.DuckDBPyConnection, folder: Path, index: _Index, days: list[str]
) -> bool:
    """Whether every event that the folder has of these days is wanted as it is."""
    if not days:
        return True
    _select_days(connection, folder, index, days)
    [(gone,)] = connection.execute(
        f"SELECT count(*) FROM present ANTI JOIN changed USING ({_EVENT})"
    ).fetchall()
    return gone == 0


def _select_days(
    connection: duckdb.DuckDBPyConnection, folder: Path, index: _Index, days: list[str]
) -> None:
    """Point the views `changed` and `present` at the events of `days`, wanted and in the folder."""
    list_of_days = ", ".join(f"'{day}'" for day in days)
    present = f"read_parquet({files(folder / name for name in index.files)})"
    for view, source in (("changed", "wanted"), ("present", present)):
        connection.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {source}"
            f" WHERE {_DAY} IN ({list_of_days})"
        )


def _write(
    connection: duckdb.DuckDBPyConnection, query: str, folder: Path, days: list[str]
) -> tuple[int, str]:
    """Rows and name of a new file, which is there in full or not at all; no file for no rows."""
    partial = folder / "new.partial"
    [(rows,)] = connection.execute(
        f"COPY ({query}) TO {text(str(partial))} (FORMAT parquet, COMPRESSION zstd)"
    ).fetchall()
    number = 1 + max((int(path.name.split("-")[0]) for path in folder.glob("*.parquet")), default=0)
    name = f"{number:06}-{min(days)}-to-{max(days)}.parquet"
    if rows:
        partial.replace(folder / name)
    return rows, name


def _stamp(path: Path) -> str:
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}"


def _read_index(folder: Path) -> _Index:
    """Of nothing, where a file is not as it was written: a user may have been forgotten in it."""
    try:
        index = _Index(**json.loads((folder / INDEX).read_text()))
        unchanged = all(_stamp(folder / name) == stamp for name, stamp in index.files.items())
    except (FileNotFoundError, ValueError, TypeError):
        return _Index({}, {})
    return index if unchanged else _Index({}, {})


def _write_index(folder: Path, index: _Index) -> None:
    partial = folder / f"{INDEX}.partial"
    partial.write_text(json.dumps(asdict(index), indent=1))
    partial.replace(folder / INDEX)


def _remove_others(folder: Path, index: _Index) -> None:
    """Remove the files of a write that was killed, or that another replaces."""
    for path in folder.iterdir():
        if path.name != INDEX and path.name not in index.files:
            path.unlink()
