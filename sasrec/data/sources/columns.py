"""From a file's own columns to those of the contracts: names, timestamps, numbers."""

import re
from collections.abc import Mapping
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError

# Names as they are met in the wild, compared without case, '_', '-' and spaces.
_ALIASES = {
    "user_id": "user userid uid reviewerid customerid visitorid accountid memberid",
    "item_id": (
        "item itemid iid movieid asin parentasin productid articleid trackid songid bookid newsid "
        "sku"
    ),
    "timestamp": "time ts timestamp datetime date unixreviewtime eventtime unixtime",
    "event_type": "eventtype event action type behavior behaviour behaviortype",
    "value": "value rating score stars overall",
    "title": "title name movietitle itemname productname producttitle",
    "category": "category genres genre class categories maincategory",
    "created_at": "createdat launchdate launchedat addedat",
}


def normalise(name: str) -> str:
    """A column name without case and separators, to compare by."""
    return re.sub(r"[\W_]", "", name).lower()


def find_column(
    table: pa.Table, wanted: str, columns: Mapping[str, str], *, source: str, required: bool
) -> str | None:
    """The column of `table` that holds `wanted`: the one mapped, of that name, or of a known alias.

    Raises:
        DataError: a mapped column is absent, or a required one is not found.
    """
    if wanted in columns:
        if columns[wanted] not in table.column_names:
            raise DataError(
                f"{source}: column '{columns[wanted]}' (mapped to {wanted}) is missing; "
                f"found {table.column_names}"
            )
        return columns[wanted]
    if wanted in table.column_names:
        return wanted
    by_normal_name = {normalise(name): name for name in reversed(table.column_names)}
    for alias in _ALIASES[wanted].split():
        if alias in by_normal_name:
            return by_normal_name[alias]
    if required:
        raise DataError(
            f"{source}: no column for '{wanted}' among {table.column_names}; "
            f"name it with --column {wanted}=NAME"
        )
    return None


def as_ids(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as text; whole numbers that Pandas turned to floats lose their '.0'. Nulls stay."""
    if pa.types.is_floating(column.type) and pc.all(pc.equal(column, pc.floor(column))).as_py():
        column = column.cast(pa.int64())
    return column.cast(pa.string())


def as_numbers(column: pa.ChunkedArray, *, source: str, name: str) -> pa.ChunkedArray:
    """float32; an empty text field is null.

    Raises:
        DataError: a field is not a number.
    """
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    try:
        return column.cast(pa.float32())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, value = _first_bad(column, float)
        raise DataError(
            f"{source}: column '{name}' at row {row} is not a number: {value!r}"
        ) from None


def as_timestamps(
    column: pa.ChunkedArray, *, source: str, name: str
) -> tuple[pa.ChunkedArray, str]:
    """Timestamps in microseconds UTC, and a sentence that says how they were understood.

    Numbers are taken as seconds, milliseconds, microseconds or nanoseconds since 1970, whichever
    puts the latest one before the year 5138; text as ISO 8601, without a zone meaning UTC.

    Raises:
        DataError: a field is empty or does not parse.
    """
    if pa.types.is_string(column.type):
        column = _parse_text(column, source=source, name=name)
    if pa.types.is_temporal(column.type):
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            column = column.cast(pa.timestamp(column.type.unit, tz="UTC"))
        return column.cast(TIMESTAMP, safe=False), f"'{name}' read as dates and times, UTC"
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(
            f"{source}: column '{name}' is {column.type}, expected a time or seconds since 1970"
        )
    return _from_epoch(column, source=source, name=name)


def as_optional_timestamps(column: pa.ChunkedArray, *, source: str, name: str) -> pa.Array:
    """As `as_timestamps`, but an empty field is null."""
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    known = column.is_valid().to_numpy()
    micros = np.zeros(len(column), dtype=np.int64)
    if known.any():
        parsed, _ = as_timestamps(column.drop_null(), source=source, name=name)
        micros[known] = parsed.cast(pa.int64()).to_numpy()
    return pa.array(micros, mask=~known).cast(TIMESTAMP)


def _parse_text(column: pa.ChunkedArray, *, source: str, name: str) -> pa.ChunkedArray:
    """Numbers, or timestamps without or with a zone: the first reading that fits every row."""
    for dtype in (pa.int64(), pa.float64(), pa.timestamp("us"), TIMESTAMP):
        try:
            return column.cast(dtype)
        except pa.ArrowInvalid:
            continue
    parse = float if _parses(column[0].as_py(), float) else datetime.fromisoformat
    row, value = _first_bad(column, parse)
    raise DataError(
        f"{source}: column '{name}' at row {row} is not a timestamp: {value!r}; "
        "use seconds since 1970 or ISO 8601 in every row"
    )


def _from_epoch(column: pa.ChunkedArray, *, source: str, name: str) -> tuple[pa.ChunkedArray, str]:
    values = column.to_numpy()
    if column.null_count or not np.isfinite(values).all():
        missing = pc.is_null(column, nan_is_null=True)
        row = pc.index(missing, True).as_py()
        raise DataError(f"{source}: column '{name}' is empty or not finite at row {row}")
    latest = np.abs(values).max(initial=0)
    unit, ratio = next(
        (unit, ratio)
        for limit, unit, ratio in (
            (1e11, "seconds", 1e6),
            (1e14, "milliseconds", 1e3),
            (1e17, "microseconds", 1.0),
            (np.inf, "nanoseconds", 1e-3),
        )
        if latest < limit
    )
    if ratio >= 1 and values.dtype.kind in "iu":
        micros = values.astype(np.int64) * int(ratio)
    else:
        micros = np.rint(values * ratio).astype(np.int64)
    return (
        pa.chunked_array([pa.array(micros).cast(TIMESTAMP)]),
        f"'{name}' read as {unit} since 1970",
    )


def _first_bad(column: pa.ChunkedArray, parse: type | object) -> tuple[int, object]:
    values = column.to_pylist()
    row = next((i for i, value in enumerate(values) if not _parses(value, parse)), 0)
    return row, values[row]


def _parses(value: object, parse) -> bool:
    try:
        parse(value)
    except (TypeError, ValueError):
        return False
    return True
