"""A file or a folder of files, in any of the formats, as a `Source`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP, check
from sasrec.data.source import Clock, Source
from sasrec.data.sources.columns import (
    as_ids,
    as_numbers,
    as_optional_timestamps,
    as_timestamps,
    find_column,
    normalise,
)
from sasrec.data.sources.files import SUFFIXES, read_file
from sasrec.errors import DataError

# What a file holds, by its name; the first that exists is taken. `*` stands for any name.
_INTERACTIONS = ["interactions", "u.data", "ratings.dat", "ratings.csv", "*.inter", "ml-1m.txt"]
_ITEMS = ["items", "u.item", "movies.dat", "movies.csv", "*.item"]
_IMPRESSIONS = ["impressions"]

# Item columns that hold several labels; the first becomes the category, all stay as they are.
_MANY_VALUED = {"genres", "class", "categories"}

# A source with an order but no time: one second per row, from here on.
STREAMED_ROWS = 1 << 18

_ROW_ORDER_START = np.datetime64("2000-01-01", "us")


def read_source(path: Path, *, name: str, columns: Mapping[str, str]) -> Source:
    """Read `path`: a file of interactions, or a folder that holds one and maybe items, impressions.

    Args:
        name: the name of the result.
        columns: contract column -> column of the interactions file; the rest is recognised.

    Raises:
        DataError: no such path, no such file inside it, or a file that breaks the contract.
    """
    files = find_files(path)
    interactions, clock, notes = _interactions(files.interactions, columns)
    items, item_notes = _items(files.items, interactions)
    return Source(name, interactions, items, read_impressions(files), clock, notes + item_notes)


@dataclass(frozen=True)
class Files:
    """What a source consists of; None for what it lacks."""

    interactions: Path
    items: Path | None = None
    impressions: Path | None = None

    def paths(self) -> list[Path]:
        """Those that are there."""
        return [path for path in (self.interactions, self.items, self.impressions) if path]


def find_files(path: Path) -> Files:
    """The files of the source at `path`, as `read_source` reads them.

    Raises:
        DataError: no such path, or no interactions in it.
    """
    if path.is_file():
        return Files(path)
    if path.is_dir():
        interactions = _find(path, _INTERACTIONS) or _only_text_file(path)
        return Files(interactions, _find(path, _ITEMS), _find(path, _IMPRESSIONS))
    raise DataError(f"{path}: no such file or folder")


def read_items(files: Files) -> tuple[pa.Table, list[str]]:
    """The item file alone, of schema `ITEMS`, and notes; no rows where there is none."""
    return _items(files.items, INTERACTIONS.empty_table())


def read_impressions(files: Files) -> pa.Table:
    """Of schema `IMPRESSIONS`; no rows where the source logs none."""
    if files.impressions is None:
        return IMPRESSIONS.empty_table()
    return check(read_file(files.impressions), IMPRESSIONS, source=str(files.impressions))


def stream_interactions(
    path: Path, columns: Mapping[str, str]
) -> tuple[Iterator[pa.Table], list[str]] | None:
    """A Parquet file a part at a time, for one too large to hold; schema `INTERACTIONS`.

    Returns:
        The parts, of the same rows that `read_source` gives, and notes. None where a column's
        meaning shows in the whole of it alone: numbers or text as times, or numbers with a
        fraction as ids.
    """
    if path.suffix != ".parquet":
        return None
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError):
        return None  # `read_source` says what is wrong
    empty = file.schema_arrow.empty_table()
    recognised = _recognise(empty, columns, source=str(path))
    ids = [empty.schema.field(recognised[name]).type for name in ("user_id", "item_id")]  # type: ignore[arg-type]
    time = recognised["timestamp"]
    if time is None or not pa.types.is_timestamp(empty.schema.field(time).type):
        return None
    if any(pa.types.is_floating(kind) for kind in ids):
        return None

    def parts() -> Iterator[pa.Table]:
        first, used = 0, [name for name in recognised.values() if name]
        for batch in file.iter_batches(STREAMED_ROWS, columns=list(dict.fromkeys(used))):
            table = pa.Table.from_batches([batch])
            yield _convert(table, recognised, first, source=str(path))[0]
            first += table.num_rows

    _, note = _convert(empty, recognised, 0, source=str(path))
    return parts(), [*_mapping_notes(path, recognised), note]


def _find(folder: Path, candidates: list[str]) -> Path | None:
    for candidate in candidates:
        names = [candidate] if "." in candidate else [candidate + suffix for suffix in SUFFIXES]
        for name in names:
            for path in sorted(folder.glob(name)):
                return path
    return None


def _only_text_file(folder: Path) -> Path:
    """Amazon's `ratings_<category>.csv`, SASRec's `<dataset>.txt`: named after what they hold."""
    candidates = sorted([*folder.glob("ratings_*.csv"), *folder.glob("*.txt")])
    if len(candidates) != 1:
        raise DataError(
            f"{folder}: no interactions file; expected interactions.csv, interactions.parquet, "
            "u.data, ratings.dat, *.inter or a single 'user item' *.txt"
        )
    return candidates[0]


def _interactions(path: Path, columns: Mapping[str, str]) -> tuple[pa.Table, Clock, list[str]]:
    table = read_file(path)
    recognised = _recognise(table, columns, source=str(path))
    interactions, note = _convert(table, recognised, 0, source=str(path))
    clock: Clock = "real" if recognised["timestamp"] else "row-order"
    return interactions, clock, [*_mapping_notes(path, recognised), note]


def _recognise(
    table: pa.Table, columns: Mapping[str, str], *, source: str
) -> dict[str, str | None]:
    """Column of the contract -> the table's, or None."""
    ordered_only = table.num_columns == 2 and "timestamp" not in columns
    required = {"user_id", "item_id"} | (set() if ordered_only else {"timestamp"})
    return {
        name: find_column(table, name, columns, source=source, required=name in required)
        for name in ("user_id", "item_id", "timestamp", "event_type", "value")
    }


def _mapping_notes(path: Path, recognised: Mapping[str, str | None]) -> list[str]:
    renamed = [f"{k} = '{v}'" for k, v in recognised.items() if v and v != k]
    return [f"{path.name}: {', '.join(renamed)}"] if renamed else []


def _convert(
    table: pa.Table, recognised: Mapping[str, str | None], first: int, *, source: str
) -> tuple[pa.Table, str]:
    """The table under the contract, its rows counted from `first`, and how times were read."""
    rows = table.num_rows
    time, event, value = (recognised[name] for name in ("timestamp", "event_type", "value"))
    if time:
        timestamps, note = as_timestamps(table[time], source=source, name=time)
    else:
        clock = _ROW_ORDER_START + np.arange(first, first + rows).astype("timedelta64[s]")
        timestamps = pa.array(clock).cast(TIMESTAMP)
        note = (
            "no timestamps: the row order became a synthetic clock of one second per row; "
            "only the order within a user means anything, so split by leave-one-out"
        )
    default_event = "rating" if value else "interaction"
    interactions = pa.table(
        {
            "user_id": as_ids(table[recognised["user_id"]]),
            "item_id": as_ids(table[recognised["item_id"]]),
            "timestamp": timestamps,
            "event_type": (
                table[event].cast(pa.string()) if event else pa.repeat(default_event, rows)
            ),
            "value": (
                as_numbers(table[value], source=source, name=value)
                if value
                else pa.nulls(rows, pa.float32())
            ),
            "sequence": np.arange(first, first + rows),
        }
    )
    return interactions, note


def _items(path: Path | None, interactions: pa.Table) -> tuple[pa.Table, list[str]]:
    seen = pc.unique(interactions["item_id"].drop_null())
    if path is None:
        return _undescribed(seen), ["no item file: items were derived from the interactions"]
    table, source = read_file(path), str(path)
    item_id = find_column(table, "item_id", {}, source=source, required=True)
    contract = {"item_id": as_ids(table[item_id])}
    taken, notes = {item_id}, []
    for field in ITEMS.names[1:]:
        column = find_column(table, field, {}, source=source, required=False)
        if column is None:
            contract[field] = pa.nulls(table.num_rows, ITEMS.field(field).type)
        elif field == "created_at":
            contract[field] = as_optional_timestamps(table[column], source=source, name=column)
        else:
            contract[field] = table[column].cast(pa.string())
        if column and normalise(column) in _MANY_VALUED:
            separator = " " if path.suffix == ".item" else "|"
            contract[field] = pc.list_element(pc.split_pattern(contract[field], separator), 0)
            notes.append(f"{path.name}: {field} is the first entry of '{column}'")
        elif column:
            taken.add(column)
    free = {n: table[n] for n in table.column_names if n not in taken and n not in contract}
    items = pa.table(contract | free)
    missing = seen.filter(pc.invert(pc.is_in(seen, items["item_id"])))
    if len(missing):
        notes.append(f"{path.name}: {len(missing)} items have interactions but no description")
        items = pa.concat_tables([items, _undescribed(missing)], promote_options="default")
    return items, notes


def _undescribed(item_ids: pa.Array) -> pa.Table:
    rows = len(item_ids)
    return pa.table(
        [item_ids, *(pa.nulls(rows, field.type) for field in list(ITEMS)[1:])], ITEMS.names
    )
