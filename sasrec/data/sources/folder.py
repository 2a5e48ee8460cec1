"""A file or a folder of files, in any of the formats, as a `Source`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP, check
from sasrec.data.source import Clock, Source
from sasrec.data.sources.columns import (
    as_ids,
    as_labels,
    as_numbers,
    find_column,
    normalise,
    without_point_zero,
)
from sasrec.data.sources.faults import at_other_rows, first_row, told_as_data_errors
from sasrec.data.sources.files import SUFFIXES, plain_name, read_file, suffix
from sasrec.data.sources.normalise import as_text, plain_table
from sasrec.data.sources.parquet import open_part, part_files, read_batches
from sasrec.data.sources.times import ORDER_START, as_optional_timestamps, as_timestamps
from sasrec.errors import DataError

# What a file holds, by its name; the first that exists is taken. `*` stands for any name.
_INTERACTIONS = ["interactions", "u.data", "ratings.dat", "ratings.csv", "*.inter", "ml-1m.txt"]
_ITEMS = ["items", "u.item", "movies.dat", "movies.csv", "*.item"]
_IMPRESSIONS = ["impressions"]

# Item columns that hold several labels; the first becomes the category, all stay as they are.
_MANY_VALUED = {"genres", "class", "categories"}

STREAMED_ROWS = 1 << 18

_FIX = "write the column as plain text, numbers or times"


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
        """Those that are there; of a folder of Parquet parts, its parts.

        Raises:
            DataError: such a folder holds no part, or something else.
        """
        there = [path for path in (self.interactions, self.items, self.impressions) if path]
        return [part for path in there for part in part_files(path)]


def find_files(path: Path) -> Files:
    """The files of the source at `path`, as `read_source` reads them.

    Raises:
        DataError: no such path, or no interactions in it.
    """
    if path.is_file() or (path.is_dir() and suffix(path) == ".parquet"):
        return Files(path)
    if path.is_dir():
        with told_as_data_errors(path, "check the folder's permissions"):
            interactions = _find(path, _INTERACTIONS) or _only_text_file(path)
            return Files(interactions, _find(path, _ITEMS), _find(path, _IMPRESSIONS))
    raise DataError(f"{path}: no such file or folder")


def read_items(files: Files) -> tuple[pa.Table, list[str]]:
    """The item file alone, of schema `ITEMS`, and notes; no rows where there is none."""
    return _items(files.items, INTERACTIONS.empty_table())


def read_impressions(files: Files) -> pa.Table:
    """Of schema `IMPRESSIONS`; no rows where the source logs none.

    Raises:
        DataError: a column is missing, or a field is not what the schema has there.
    """
    if files.impressions is None:
        return IMPRESSIONS.empty_table()
    source = str(files.impressions)
    table, _ = read_file(files.impressions)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    for field in IMPRESSIONS:
        if field.name in columns:
            columns[field.name] = _as_field(columns[field.name], field, source=source)
    return check(pa.table(columns), IMPRESSIONS, source=source)


def _as_field(column: pa.ChunkedArray, field: pa.Field, *, source: str) -> pa.ChunkedArray:
    """A column of the impressions in its type."""
    if field.name in ("request_id", "user_id", "item_id"):
        return as_ids(column, source=source, name=field.name)
    if pa.types.is_string(field.type):
        return as_labels(column, source=source, name=field.name)
    if pa.types.is_timestamp(field.type):
        return as_timestamps(column, source=source, name=field.name)[0]
    return as_numbers(column, source=source, name=field.name, dtype=field.type)


def stream_interactions(
    path: Path, columns: Mapping[str, str]
) -> tuple[Iterator[pa.Table], list[str]] | None:
    """Parquet a part at a time, for what is too large to hold; schema `INTERACTIONS`.

    Returns:
        The parts, of the same rows that `read_source` gives, and notes. None where a column's
        meaning shows in the whole of it alone: numbers or text as times; numbers with a fraction,
        or bytes as ids.
    """
    if suffix(path) != ".parquet":
        return None
    try:
        schemas = [open_part(part).schema_arrow for part in part_files(path)]
        empty = plain_table(schemas[0].empty_table(), source=str(path))
    except DataError:
        return None  # `read_source` says what is wrong
    if any(not schema.equals(schemas[0]) for schema in schemas):
        return None
    recognised = _recognise(empty, columns, source=str(path))
    kinds = {name: empty.schema.field(name).type for name in recognised.values() if name}
    time = recognised["timestamp"]
    if time is None or not pa.types.is_timestamp(kinds[time]):
        return None
    whole = (pa.types.is_floating, pa.types.is_decimal, pa.types.is_binary)
    ids = [kinds[recognised[name]] for name in ("user_id", "item_id")]  # type: ignore[index]
    if any(check(kind) for kind in ids for check in whole):
        return None
    if not set(kinds) <= set(schemas[0].names):
        return None  # named by a folder, `day=2024-01-01/`

    def parts() -> Iterator[pa.Table]:
        first = 0
        for table in read_batches(path, STREAMED_ROWS, list(kinds)):
            try:
                part, _ = _convert(table, recognised, first, source=str(path))
            except DataError as error:
                raise at_other_rows(error, lambda row, before=first: before + row) from None  # type: ignore[misc]
            yield part
            first += table.num_rows

    _, note = _convert(empty, recognised, 0, source=str(path))
    return parts(), [*_mapping_notes(path, recognised), note]


def _find(folder: Path, candidates: list[str]) -> Path | None:
    """The first there is, by its name in lower case and without `.gz`."""
    there = {
        plain_name(path): path for path in sorted(folder.iterdir(), reverse=True) if _whole(path)
    }
    for candidate in candidates:
        names = [candidate] if "." in candidate else [candidate + kind for kind in SUFFIXES]
        for name in names:
            for found in sorted(there):
                if fnmatchcase(found, name):
                    return there[found]
    return None


def _whole(path: Path) -> bool:
    return path.is_file() or suffix(path) == ".parquet"


def _only_text_file(folder: Path) -> Path:
    """Amazon's `ratings_<category>.csv`, SASRec's `<dataset>.txt`: named after what they hold."""
    candidates = [
        path
        for path in sorted(folder.iterdir())
        if fnmatchcase(plain_name(path), "ratings_*.csv") or suffix(path) == ".txt"
    ]
    if len(candidates) != 1:
        raise DataError(
            f"{folder}: no interactions file; expected interactions.csv, interactions.parquet, "
            "u.data, ratings.dat, *.inter or a single 'user item' *.txt"
        )
    return candidates[0]


def _interactions(path: Path, columns: Mapping[str, str]) -> tuple[pa.Table, Clock, list[str]]:
    table, notes = read_file(path)
    recognised = _recognise(table, columns, source=str(path))
    if suffix(path) != ".parquet":
        ids = [str(recognised[name]) for name in ("user_id", "item_id")]
        table = without_point_zero(table, ids)
    interactions, note = _convert(table, recognised, 0, source=str(path))
    clock: Clock = "real" if recognised["timestamp"] else "row-order"
    notes += [*_mapping_notes(path, recognised), note, *_blank_notes(path, interactions)]
    return interactions, clock, notes


def _blank_notes(path: Path, interactions: pa.Table) -> list[str]:
    """Ids are kept as they are, so `u1` and `u1 ` are two."""
    notes = []
    for name in ("user_id", "item_id"):
        ids = interactions[name].unique()
        padded = pc.sum(pc.not_equal(ids, pc.utf8_trim_whitespace(ids))).as_py()
        if padded:
            notes.append(f"{path.name}: {padded} values of {name} begin or end in a blank, kept")
    return notes


def _recognise(
    table: pa.Table, columns: Mapping[str, str], *, source: str
) -> dict[str, str | None]:
    """Column of the contract -> the table's, or None."""
    ordered_only = columns.get("timestamp", "") == "" and (
        table.num_columns == 2 or "timestamp" in columns
    )
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
        clock = (ORDER_START + np.arange(first, first + rows)) * 10**6
        timestamps = pa.array(clock).cast(TIMESTAMP)
        note = (
            "no timestamps: the row order became a synthetic clock of one second per row; "
            "only the order within a user means anything, so split by leave-one-out"
        )
    default_event = "rating" if value else "interaction"
    interactions = pa.table(
        {
            **{
                name: as_ids(table[recognised[name]], source=source, name=str(recognised[name]))
                for name in ("user_id", "item_id")
            },
            "timestamp": timestamps,
            "event_type": (
                as_labels(table[event], source=source, name=event)
                if event
                else pa.repeat(default_event, rows)
            ),
            "value": (
                as_numbers(
                    table[value],
                    source=source,
                    name=value,
                    hint="--column value= leaves the column out",
                )
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
    source = str(path)
    table, notes = read_file(path)
    item_id = find_column(
        table, "item_id", {}, source=source, required=True, fix="name that column item_id"
    )
    if suffix(path) != ".parquet":
        table = without_point_zero(table, [str(item_id)])
    contract = {"item_id": as_ids(table[item_id], source=source, name=str(item_id))}
    empty = first_row(pc.equal(contract["item_id"], "").fill_null(True))
    if empty >= 0:
        raise DataError(f"{source}: column '{item_id}' is empty at row {empty}; remove the row")
    taken = {item_id}
    for field in ITEMS.names[1:]:
        column = find_column(table, field, {}, source=source, required=False)
        if column is None:
            contract[field] = pa.nulls(table.num_rows, ITEMS.field(field).type)
        elif field == "created_at":
            contract[field] = as_optional_timestamps(table[column], source=source, name=column)
        else:
            contract[field] = as_text(table[column], source=source, name=column)
        if column and normalise(column) in _MANY_VALUED:
            separator = " " if suffix(path) == ".item" else "|"
            contract[field] = pc.list_element(pc.split_pattern(contract[field], separator), 0)
            notes.append(f"{path.name}: {field} is the first entry of '{column}'")
        elif column:
            taken.add(column)
    unnamed = [name for name in table.column_names if name not in taken and name not in contract]
    pictures = [name for name in unnamed if pa.types.is_binary(table.schema.field(name).type)]
    notes += [f"{path.name}: '{name}' holds bytes and is left out" for name in pictures]
    free = {
        name: _free(table[name], source=source, name=name)
        for name in unnamed
        if name not in pictures
    }
    items = pa.table(contract | free)
    missing = seen.filter(pc.invert(pc.is_in(seen, items["item_id"])))
    if len(missing):
        notes.append(f"{path.name}: {len(missing)} items have interactions but no description")
        items = pa.concat_tables([items, _undescribed(missing)], promote_options="default")
    return items, notes


def _free(column: pa.ChunkedArray, *, source: str, name: str) -> pa.ChunkedArray:
    """A column of the items that no contract names, in a type that features and Delta know."""
    kind = column.type
    if pa.types.is_decimal(kind):
        with told_as_data_errors(f"{source}: column '{name}'", _FIX):
            return column.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        with told_as_data_errors(f"{source}: column '{name}'", _FIX):
            zoned = column.cast(pa.timestamp(kind.unit, tz="UTC"))
            return zoned.cast(TIMESTAMP, safe=False)
    if pa.types.is_uint64(kind):  # Delta has no unsigned numbers
        return as_text(column, source=source, name=name)
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_date)
    if any(check(kind) for check in known):
        return column
    return as_text(column, source=source, name=name)


def _undescribed(item_ids: pa.Array) -> pa.Table:
    rows = len(item_ids)
    return pa.table(
        [item_ids, *(pa.nulls(rows, field.type) for field in list(ITEMS)[1:])], ITEMS.names
    )
