"""One step after reading any table: of the many Arrow types of a thing, one is left.

Writers differ in how they store the same: Polars writes `large_string` or `string_view`, Pandas
dictionaries, Snowflake decimals, DuckDB UUIDs. What follows here knows null, boolean, integers,
floats, decimals, string, binary, times and lists alone.
"""

from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.sources.faults import told_as_data_errors

_FIX = "write the column as plain text, numbers or times"


def plain_table(table: pa.Table, *, source: str) -> pa.Table:
    """The columns of `table` in plain types, their names unique: `price`, then `price (2)`.

    Raises:
        DataError: a column holds what cannot be told as any of them.
    """
    names: list[str] = []
    for name in table.column_names:
        count, unique = 1, name
        while unique in names:
            count += 1
            unique = f"{name} ({count})"
        names.append(unique)
    columns = [
        plain_column(column, source=source, name=name)
        for name, column in zip(names, table.columns, strict=True)
    ]
    return pa.table(columns, names) if names else table


def plain_column(column: pa.ChunkedArray | pa.Array, *, source: str, name: str) -> pa.ChunkedArray:
    """The same values in one of the plain types.

    Raises:
        DataError: they do not fit one.
    """
    if isinstance(column, pa.Array):
        column = pa.chunked_array([column])
    with told_as_data_errors(f"{source}: column '{name}'", _FIX):
        return _plain(column)


def as_text(column: pa.ChunkedArray, *, source: str, name: str) -> pa.ChunkedArray:
    """A plain column as text: a list by its entries with '|' between, anything else as it prints.

    Raises:
        DataError: bytes that are no UTF-8.
    """
    kind = column.type
    if pa.types.is_string(kind):
        return column
    with told_as_data_errors(f"{source}: column '{name}'", _FIX):
        if pa.types.is_null(kind):
            return pa.chunked_array([pa.nulls(len(column), pa.string())])
        if pa.types.is_list(kind) and not pa.types.is_nested(kind.value_type):
            entries = column.cast(pa.list_(pa.string()))
            return pc.binary_join(entries, "|")
        if not pa.types.is_nested(kind):
            try:
                return column.cast(pa.string())
            except pa.ArrowNotImplementedError:
                pass  # an interval, say: as Python prints it
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if pa.types.is_run_end_encoded(kind):
        chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return _plain(pa.chunked_array(chunks, kind.value_type))
    if isinstance(kind, pa.UuidType):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if isinstance(kind, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        return _plain(pa.chunked_array(chunks, kind.storage_type))
    wanted = _plain_type(kind)
    return column if wanted == kind else column.cast(wanted)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if (
        pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    ):
        return pa.binary()
    if pa.types.is_float16(kind):
        return pa.float32()
    nested = (pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list)
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    if any(check(kind) for check in (*nested, *views)):
        return pa.list_(_plain_type(kind.value_type))
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    return kind


def text_of_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray | int:
    """Bytes as the text they hold, or as UUIDs if all are 16 bytes and some are no text.

    Returns:
        The texts, or the first row that is neither.
    """
    values = column.to_pylist()
    try:
        return pa.chunked_array([pa.array(map(_decoded, values), pa.string())])
    except UnicodeDecodeError:
        pass
    if all(value is None or len(value) == 16 for value in values):
        texts = [None if value is None else str(UUID(bytes=value)) for value in values]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return next(row for row, value in enumerate(values) if not _is_text(value))


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _is_text(value: bytes | None) -> bool:
    try:
        _decoded(value)
    except UnicodeDecodeError:
        return False
    return True
