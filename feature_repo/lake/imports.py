"""A data set becomes part of the site's data: by its content, so that the same adds nothing."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path

import duckdb
import pyarrow as pa

from feature_repo.lake.lake import LAKE_IMPRESSIONS, LAKE_INTERACTIONS, LAKE_ITEMS, Lake
from feature_repo.lake.records import days
from feature_repo.lake.relations import relations
from feature_repo.lake.state import Import, State
from sasrec.data import sources
from sasrec.data.cleaning import checked_impressions, checked_interactions, checked_items
from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP
from sasrec.data.source import Clock
from sasrec.data.sources.folder import (
    STREAMED_ROWS,
    find_files,
    read_impressions,
    read_items,
    stream_interactions,
)
from sasrec.errors import DataError

MEMORY_LIMIT = "2GB"
_NEWEST_ITEMS = (
    "(SELECT * FROM lake_items QUALIFY row_number() OVER"
    " (PARTITION BY item_id ORDER BY batch DESC) = 1)"
)


@dataclass(frozen=True)
class Imported:
    """What an import added.

    Attributes:
        read: interactions of the data set.
        added: of them, those that the lake had not.
        grown: whether it added anything, items and impressions included.
    """

    read: int
    added: int
    grown: bool


@dataclass(frozen=True)
class _Source:
    """A data set to import; the interactions come in parts."""

    name: str
    interactions: Iterator[pa.Table]
    items: pa.Table
    impressions: pa.Table
    clock: Clock
    notes: list[str]


def import_dataset(
    lake: Lake,
    dataset: str,
    *,
    data_dir: Path | None,
    columns: Mapping[str, str],
    seed: int,
    now: datetime,
) -> Imported | None:
    """Add a data set to a lake that holds no unfinished batch.

    Rows that the lake holds already are not added again: a file that grows is imported by what is
    new in it.

    Args:
        dataset, data_dir, columns, seed: as for `sasrec.data.sources.load`.
        now: the moment of the import; interactions more than a day later are refused.

    Returns:
        None if the same content was imported before.

    Raises:
        DataError: the data breaks its contract, or has no time and the lake is not empty. The lake
            is as it was.
    """
    digest = _digest(dataset, data_dir, columns, seed)
    state = lake.state
    if any(known.digest == digest for known in state.imports):
        return None
    source = _open(dataset, data_dir, columns, seed)
    if state.clock is not None and "row-order" in (state.clock, source.clock):
        raise DataError(
            f"{dataset}: has an order but no time, or what {lake} holds has none, so one cannot "
            "follow the other; use another --home"
        )
    pending = state.begin("import", clock=source.clock)
    lake.write_state(replace(pending, clock=state.clock))
    try:
        imported = _append(lake, pending, source, now)
    except BaseException:
        lake.take_back()
        raise
    done = Import(digest, source.name, source.notes)
    lake.complete(
        replace(
            pending,
            next_sequence=state.next_sequence + imported.read,
            imports=[*state.imports, done],
        ),
        grown=imported.grown,
    )
    return imported


def _append(lake: Lake, state: State, source: _Source, now: datetime) -> Imported:
    parts = _Parts(source, state, now)
    items = checked_items(source.items, source.name)
    impressions = checked_impressions(source.impressions, source.name)
    with relations(lake, MEMORY_LIMIT) as connection:
        try:
            rows = pa.RecordBatchReader.from_batches(LAKE_INTERACTIONS, parts.batches())
            if lake.files("interactions"):
                connection.register("incoming", rows)
                rows = connection.sql(
                    "SELECT * FROM incoming ANTI JOIN lake_interactions"
                    " USING (user_id, item_id, timestamp, event_type)"
                ).to_arrow_reader(STREAMED_ROWS)
            new = pa.RecordBatchReader.from_batches(LAKE_INTERACTIONS, parts.counted(rows))
            lake.append("interactions", new, state.batch)
        except Exception:
            # Whoever reads the parts wraps what is wrong with them in words of its own.
            if parts.problem:
                raise parts.problem from None
            raise
        new_items = _new_items(connection, items, state, now)
        new_impressions = _new_impressions(connection, impressions, state)
    for table, more in (("items", new_items), ("impressions", new_impressions)):
        if more.num_rows:
            lake.append(table, more, state.batch)
    grown = bool(parts.added or new_items.num_rows or new_impressions.num_rows)
    return Imported(parts.read, parts.added, grown)


@dataclass
class _Parts:
    """The interactions of an import on their way, counted.

    Attributes:
        read, added: rows that came, and those of them that went into the lake.
        problem: what is wrong with them.
    """

    source: _Source
    state: State
    now: datetime
    read: int = 0
    added: int = 0
    problem: DataError | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Each part, checked, with the columns of the lake."""
        try:
            for part in self.source.interactions:
                if part.num_rows:
                    rows = checked_interactions(
                        part, self.source.name, now=self.now, first_row=self.read
                    )
                    yield from _with_lake_columns(rows, self.state, self.read).to_batches()
                    self.read += part.num_rows
            if not self.read:
                raise DataError(f"{self.source.name} interactions: there are no rows")
        except DataError as error:
            self.problem = error
            raise

    def counted(self, rows: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The new ones, in the types of the lake."""
        for batch in rows:
            self.added += batch.num_rows
            yield from pa.Table.from_batches([batch]).cast(LAKE_INTERACTIONS).to_batches()


def _with_lake_columns(rows: pa.Table, state: State, first: int) -> pa.Table:
    """The interactions of an import as `LAKE_INTERACTIONS`."""
    count = rows.num_rows
    columns = {name: rows[name] for name in INTERACTIONS.names}
    start = state.next_sequence + first
    return pa.table(
        columns
        | {
            "sequence": pa.array(range(start, start + count), pa.int64()),
            "event_id": pa.nulls(count, pa.string()),
            "request_id": pa.nulls(count, pa.string()),
            "batch": pa.repeat(state.batch, count),
            "day": days(rows["timestamp"]),
        },
        schema=LAKE_INTERACTIONS,
    )


def _new_items(
    connection: duckdb.DuckDBPyConnection, items: pa.Table, state: State, now: datetime
) -> pa.Table:
    """The items that the lake has not, or describes otherwise, as `LAKE_ITEMS`."""
    items = _plain(items)
    connection.register("incoming_items", items)
    known = connection.table("lake_items").columns
    names = [f'"{name}"' for name in items.column_names]
    query = f"SELECT {', '.join(names)} FROM incoming_items"
    if set(items.column_names) <= set(known):
        query += f" EXCEPT SELECT {', '.join(names)} FROM {_NEWEST_ITEMS}"
    described = [f"{name} IS NOT NULL" for name in names[1:]]
    rows = connection.sql(
        f"SELECT * FROM ({query}) AS fresh WHERE {' OR '.join(described)}"
        " OR item_id NOT IN (SELECT item_id FROM lake_items) ORDER BY item_id"
    ).to_arrow_table()
    rows = rows.select(items.column_names).cast(items.schema)
    for name, column in (
        ("written", pa.repeat(pa.scalar(now, TIMESTAMP), rows.num_rows)),
        ("batch", pa.repeat(state.batch, rows.num_rows)),
    ):
        rows = rows.add_column(len(ITEMS) + (name == "batch"), LAKE_ITEMS.field(name), column)
    return rows


def _plain(items: pa.Table) -> pa.Table:
    """Without the types that Delta does not know: no type at all, and dictionaries."""
    fields = []
    for field in items.schema:
        if pa.types.is_null(field.type):
            field = field.with_type(pa.string())
        elif pa.types.is_dictionary(field.type):
            field = field.with_type(field.type.value_type)
        fields.append(field)
    return items.cast(pa.schema(fields))


def _new_impressions(
    connection: duckdb.DuckDBPyConnection, impressions: pa.Table, state: State
) -> pa.Table:
    """The slots that the lake has not, or knows with another reward, as `LAKE_IMPRESSIONS`."""
    connection.register("incoming_impressions", impressions.select(IMPRESSIONS.names))
    rows = connection.sql(
        "SELECT new.* FROM incoming_impressions AS new WHERE NOT EXISTS (SELECT 1 FROM"
        " lake_impressions AS known WHERE known.request_id = new.request_id"
        " AND known.position = new.position AND known.reward IS NOT DISTINCT FROM new.reward)"
        " ORDER BY timestamp, request_id, position"
    ).to_arrow_table()
    columns = [
        *rows.columns,
        pa.repeat(False, rows.num_rows),
        pa.repeat(state.batch, rows.num_rows),
        days(rows["timestamp"]),
    ]
    return pa.table(columns, LAKE_IMPRESSIONS.names).cast(LAKE_IMPRESSIONS)


def _open(dataset: str, data_dir: Path | None, columns: Mapping[str, str], seed: int) -> _Source:
    if dataset != "simulated":
        files = find_files(sources.locate(dataset, data_dir=data_dir))
        if streamed := stream_interactions(files.interactions, columns):
            parts, notes = streamed
            items, item_notes = read_items(files)
            return _Source(
                dataset, parts, items, read_impressions(files), "real", notes + item_notes
            )
    source = sources.load(dataset, data_dir=data_dir, columns=columns, seed=seed)
    rows = source.interactions
    parts = (rows.slice(first, STREAMED_ROWS) for first in range(0, rows.num_rows, STREAMED_ROWS))
    return _Source(dataset, parts, source.items, source.impressions, source.clock, source.notes)


def _digest(dataset: str, data_dir: Path | None, columns: Mapping[str, str], seed: int) -> str:
    """Of everything that decides what an import brings: files, mapping, or the seed."""
    digest = sha256(json.dumps(sorted(columns.items())).encode())
    if dataset == "simulated":
        digest.update(f"simulated {seed}".encode())
        return digest.hexdigest()
    for path in find_files(sources.locate(dataset, data_dir=data_dir)).paths():
        with path.open("rb") as file:
            digest.update(f"{path.name} {file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
