"""A file or a folder of files, in any of the formats, as a `Source`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import IMPRESSIONS, ITEMS, TIMESTAMP, check
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
_ROW_ORDER_START = np.datetime64("2000-01-01", "us")


def read_source(path: Path, *, name: str, columns: Mapping[str, str]) -> Source:
    """Read `path`: a file of interactions, or a folder that holds one and maybe items, impressions.

    Args:
        name: the name of the result.
        columns: contract column -> column of the interactions file; the rest is recognised.

    Raises:
        DataError: no such path, no such file inside it, or a file that breaks the contract.
    """
    if path.is_file():
        interactions_file, items_file, impressions_file = path, None, None
    elif path.is_dir():
        interactions_file = _find(path, _INTERACTIONS) or _only_text_file(path)
        items_file, impressions_file = _find(path, _ITEMS), _find(path, _IMPRESSIONS)
    else:
        raise DataError(f"{path}: no such file or folder")
    interactions, clock, notes = _interactions(interactions_file, columns)
    items, item_notes = _items(items_file, interactions)
    impressions = (
        check(read_file(impressions_file), IMPRESSIONS, source=str(impressions_file))
        if impressions_file
        else IMPRESSIONS.empty_table()
    )
    return Source(name, interactions, items, impressions, clock, notes + item_notes)


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
    table, source = read_file(path), str(path)
    user = find_column(table, "user_id", columns, source=source, required=True)
    item = find_column(table, "item_id", columns, source=source, required=True)
    ordered_only = table.num_columns == 2 and "timestamp" not in columns
    time = find_column(table, "timestamp", columns, source=source, required=not ordered_only)
    event = find_column(table, "event_type", columns, source=source, required=False)
    value = find_column(table, "value", columns, source=source, required=False)
    taken = {
        "user_id": user,
        "item_id": item,
        "timestamp": time,
        "event_type": event,
        "value": value,
    }
    notes = (
        [f"{path.name}: " + ", ".join(f"{k} = '{v}'" for k, v in taken.items() if v and v != k)]
        if any(v and v != k for k, v in taken.items())
        else []
    )

    rows = table.num_rows
    if time:
        timestamps, note = as_timestamps(table[time], source=source, name=time)
    else:
        clock = _ROW_ORDER_START + np.arange(rows).astype("timedelta64[s]")
        timestamps = pa.array(clock).cast(TIMESTAMP)
        note = (
            "no timestamps: the row order became a synthetic clock of one second per row; "
            "only the order within a user means anything, so split by leave-one-out"
        )
    default_event = "rating" if value else "interaction"
    interactions = pa.table(
        {
            "user_id": as_ids(table[user]),
            "item_id": as_ids(table[item]),
            "timestamp": timestamps,
            "event_type": (
                table[event].cast(pa.string()) if event else pa.repeat(default_event, rows)
            ),
            "value": (
                as_numbers(table[value], source=source, name=value)
                if value
                else pa.nulls(rows, pa.float32())
            ),
            "sequence": np.arange(rows),
        }
    )
    return interactions, "real" if time else "row-order", [*notes, note]


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
