"""From a file's own columns to those of the contracts: names, ids, numbers."""

import re
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import MAX_ID_LENGTH
from sasrec.data.sources.faults import first_row, shown, told_as_data_errors
from sasrec.data.sources.normalise import as_text, plain_column, text_of_bytes
from sasrec.errors import DataError

_FLOAT = pa.float32()
_EXACT = 2**53  # from here on a float stands for several integers
_SCIENTIFIC = r"^[-+]?\d([.,]\d+)?[eE]\+\d{2,}$"
_WHOLE_FLOAT = r"^-?\d+\.0$"
_MISSING = pa.array(["", "na", "n/a", "nan", "null", "none", "-", "?", r"\n", "<na>", "nil"])

# Names as they are met in the wild, compared without case, '_', '-' and spaces.
_ALIASES = {
    "user_id": "user userid uid reviewerid customerid visitorid accountid memberid",
    "item_id": (
        "item itemid iid movieid asin parentasin productid articleid trackid songid bookid newsid "
        "sku isbn"
    ),
    "timestamp": "time ts timestamp datetime date unixreviewtime eventtime unixtime tdat",
    "event_type": "eventtype event action type behavior behaviour behaviortype",
    "value": "value rating score stars overall",
    "title": "title name movietitle itemname productname producttitle",
    "category": "category genres genre class categories maincategory",
    "created_at": "createdat launchdate launchedat addedat",
}


def normalise(name: str) -> str:
    """A column name without case and separators, to compare by."""
    return re.sub(r"[\W_]", "", name).lower()


def names_an_id(name: str) -> bool:
    """Whether a header says this, of a column of users or items."""
    known = f"{_ALIASES['user_id']} {_ALIASES['item_id']}".split()
    return normalise(re.sub(r":token$", "", name)) in known


def find_column(
    table: pa.Table,
    wanted: str,
    columns: Mapping[str, str],
    *,
    source: str,
    required: bool,
    fix: str | None = None,
) -> str | None:
    """The column of `table` that holds `wanted`: the one mapped, of that name, or of a known alias.

    One that is mapped to "" is held by none.

    Args:
        fix: what to do where a required one is not found; by default, how to map it.

    Raises:
        DataError: a mapped column is absent, a required one is not found, or there are two.
    """
    fix = fix or f"name it with --column {wanted}=NAME, or add a header line if there is none"
    name = _find(table, wanted, columns, source=source, fix=fix if required else None)
    if name is not None and f"{name} (2)" in table.column_names:
        raise DataError(f"{source}: two columns are named '{name}'; rename one")
    return name


def _find(
    table: pa.Table, wanted: str, columns: Mapping[str, str], *, source: str, fix: str | None
) -> str | None:
    """`fix` is None where the column is not required."""
    if columns.get(wanted) == "" and fix is None:
        return None
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
    if fix is not None:
        raise DataError(f"{source}: no column for '{wanted}' among {table.column_names}; {fix}")
    return None


def as_ids(
    column: pa.ChunkedArray | pa.Array, *, source: str = "ids", name: str = "id"
) -> pa.ChunkedArray:
    """Ids as text; whole numbers that Pandas turned to floats lose their '.0'. Nulls stay.

    Raises:
        DataError: values that cannot be ids: lists, times, fractions, numbers that have lost
            digits, text of more than `MAX_ID_LENGTH` characters.
    """
    column = plain_column(column, source=source, name=name)
    kind, where = column.type, f"{source}: column '{name}'"
    if pa.types.is_list(kind):
        raise DataError(f"{where} holds lists; write one row per event")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = _whole_numbers(column, where)
    elif pa.types.is_binary(kind):
        texts = text_of_bytes(column)
        if isinstance(texts, int):
            raise DataError(f"{where} at row {texts} is not UTF-8 text; write ids as text")
        column = texts
    elif not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise DataError(f"{where} is {kind}, expected ids: text or whole numbers")
    with told_as_data_errors(where, "write ids as text"):
        column = column.cast(pa.string())
    return _checked_text_ids(column, where)


def _whole_numbers(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    """Floats and decimals as the text of integers."""
    if pa.types.is_floating(column.type):
        column = column.cast(pa.float64())
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
        row = first_row(pc.greater_equal(pc.abs(column), _EXACT).fill_null(False))
        if row >= 0:
            raise DataError(
                f"{where} at row {row} is {column[row].as_py():.17g}: a float of this size has "
                "lost digits; write ids as text or integers"
            )
    row = first_row(pc.not_equal(column, pc.floor(column)).fill_null(False))
    if row >= 0:
        raise DataError(
            f"{where} at row {row} is {column[row].as_py()}, expected ids: text or whole numbers"
        )
    if pa.types.is_floating(column.type):
        return column.cast(pa.int64())
    texts = [None if value is None else str(int(value)) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _checked_text_ids(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    row = first_row(pc.greater(pc.utf8_length(column), MAX_ID_LENGTH).fill_null(False))
    if row >= 0:
        length = len(column[row].as_py())
        raise DataError(
            f"{where} at row {row} has {length} characters, ids at most {MAX_ID_LENGTH}; "
            "shorten the ids, or write a hash of each (sha256)"
        )
    row = first_row(pc.match_substring_regex(column, _SCIENTIFIC).fill_null(False))
    if row >= 0:
        raise DataError(
            f"{where} at row {row} is {column[row].as_py()}: a spreadsheet has cut these digits; "
            "export the ids as text"
        )
    row = first_row(pc.match_substring(column, "\0").fill_null(False))
    if row >= 0:
        raise DataError(f"{where} at row {row} holds a NUL character; remove it")
    return column


def without_point_zero(table: pa.Table, names: list[str]) -> pa.Table:
    """Ids of a text file that were floats in Pandas: `17.0` in every row is 17."""
    for name in names:
        column = table[name]
        if not pa.types.is_string(column.type):
            continue
        floats = pc.match_substring_regex(column, _WHOLE_FLOAT)
        if pc.all(floats, min_count=1).as_py():
            position = table.column_names.index(name)
            table = table.set_column(position, name, pc.utf8_slice_codeunits(column, 0, -2))
    return table


def as_labels(column: pa.ChunkedArray | pa.Array, *, source: str, name: str) -> pa.ChunkedArray:
    """One text per row, such as an event type or a policy. Nulls stay.

    Raises:
        DataError: a list or another nested value.
    """
    column = plain_column(column, source=source, name=name)
    if pa.types.is_nested(column.type):
        raise DataError(
            f"{source}: column '{name}' holds {column.type}, expected one value; write one row each"
        )
    return as_text(column, source=source, name=name)


def as_numbers(
    column: pa.ChunkedArray | pa.Array,
    *,
    source: str,
    name: str,
    dtype: pa.DataType = _FLOAT,
    hint: str = "",
) -> pa.ChunkedArray:
    """Numbers of `dtype`; NaN and the usual words for a missing value are null.

    Text may have a decimal comma if no row has a point. True is 1.

    Args:
        hint: what else to do about a column that holds no numbers.

    Raises:
        DataError: a field is not a number, or one that `dtype` cannot hold.
    """
    column = plain_column(column, source=source, name=name)
    where = f"{source}: column '{name}'"
    if pa.types.is_string(column.type):
        column = pc.utf8_trim_whitespace(column)
        missing = pc.is_in(pc.utf8_lower(column), _MISSING)
        column = pc.if_else(missing, pa.scalar(None, pa.string()), column)
        column = _with_decimal_point(column)
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    try:
        numbers = column.cast(pa.float64())
        numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
        row = first_row(pc.is_inf(numbers).fill_null(False))
        if row < 0:
            numbers = numbers.cast(dtype)
            infinite = pa.types.is_floating(dtype) and pc.is_inf(numbers).fill_null(False)
            row = first_row(infinite) if infinite else -1
        if row < 0:
            return numbers
        value: object = column[row].as_py()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        row, value = _first_bad(column, dtype)
    wanted = "a number" if pa.types.is_floating(dtype) else f"a whole number ({dtype})"
    raise DataError(f"{where} at row {row} is not {wanted}: {shown(value)}{hint and '; ' + hint}")


def _with_decimal_point(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pc.any(pc.match_substring(column, ",")).as_py():
        return column
    if not pc.all(pc.match_substring_regex(column, r"^[-+]?\d*(,\d+)?$")).as_py():
        return column
    return pc.replace_substring(column, ",", ".")


def _first_bad(column: pa.ChunkedArray, dtype: pa.DataType) -> tuple[int, object]:
    for row, value in enumerate(column):
        try:
            value.cast(pa.float64()).cast(dtype)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return row, value.as_py()
    return 0, column[0].as_py()
