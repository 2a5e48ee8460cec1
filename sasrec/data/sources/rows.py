"""The rows of a text by its layout.

Text without quotes, and text whose every quote stands where RFC 4180 has it, is split by Arrow; any
other by the standard library's `csv`, strictly: on the same inputs DuckDB returned no rows where a
quote is never closed, and Arrow a longer table where a quoted field spans lines. A reading counts
only if every row has the same number of fields, so that a wrong guess ends in a message and not in
other rows.
"""

import csv
import io
import re
import sys
from itertools import islice

import pyarrow as pa
import pyarrow.csv

from sasrec.data.sources.encoding import line_number
from sasrec.data.sources.faults import shown, told_as_data_errors
from sasrec.data.sources.layout import Layout, first_line
from sasrec.data.sources.quotes import Lines, lines_of_rows
from sasrec.errors import DataError

_CHUNK_ROWS = 1 << 16
_BLOCK_BYTES = 1 << 24  # the longest line without quotes


class _Unfit(Exception):
    """A reading that does not fit the file, and what to say if none does."""


def read_rows(content: bytes, layout: Layout, *, source: str) -> pa.Table:
    """The rows below the header, by the first reading that fits every one.

    Raises:
        DataError: none fits, or two fit that differ in the number of rows.
    """
    # Many writers quote the header alone.
    body = len(first_line(content)) if layout.header else 0
    if content.find(b'"', body) < 0:
        try:
            return _split(content, layout, source=source)
        except _Unfit as unfit:
            raise DataError(f"{source}: {unfit}") from None
    problem: _Unfit | None = None
    for escape in (None, "\\"):
        try:
            table, lines = _quoted(content, layout, escape)
        except _Unfit as unfit:
            problem = problem or unfit
            continue
        if lines > table.num_rows and _fits_unquoted(content, layout, source=source):
            raise DataError(
                f"{source}: has {table.num_rows} rows if its quotes enclose line breaks and "
                "others if they are text; write the quotes doubled, or write Parquet"
            )
        return table
    try:
        return _split(content, layout, source=source)
    except _Unfit:
        raise DataError(f"{source}: {problem}") from None


def _fits_unquoted(content: bytes, layout: Layout, *, source: str) -> bool:
    try:
        _split(content, layout, source=source)
    except (_Unfit, DataError):
        return False
    return True


def _split(content: bytes, layout: Layout, *, source: str) -> pa.Table:
    """Rows and fields as the line breaks and delimiters stand, quotes being text."""
    stray = re.search(rb"\r(?!\n)", content) if b"\n" in content else None
    if stray:
        raise _Unfit(
            f"line {line_number(content, stray.start())} holds a carriage return inside; remove "
            "it, or quote the field"
        )
    bad: list[pa.csv.InvalidRow] = []
    head = int(layout.header)

    def refuse(row: pa.csv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    try:
        return _by_arrow(
            content,
            layout,
            pa.csv.ParseOptions(
                delimiter=layout.delimiter, quote_char=False, invalid_row_handler=refuse
            ),
            skip_rows=head,
            use_threads=False,  # or rows have no number
        )
    except pa.ArrowInvalid as error:
        if bad:
            number = bad[0].number - 1 - head
            raise _Unfit(
                _uneven(number, len(layout.names), bad[0].actual_columns, bad[0].text)
            ) from None
        with told_as_data_errors(source, "is every line shorter than 16 MB?"):
            raise error


def _quoted(content: bytes, layout: Layout, escape: str | None) -> tuple[pa.Table, int]:
    """Rows and fields as RFC 4180 has them, and the number of lines that they fill."""
    lines = None if escape or layout.blanks else lines_of_rows(content, layout.delimiter)
    if lines and (table := _at_once(content, layout, lines)):
        return table, table.num_rows + lines.enclosed
    csv.field_size_limit(sys.maxsize)
    width = len(layout.names)
    # With "\n" alone, a carriage return that no quotes enclose is an error and not a line break.
    newline = "\n" if b"\n" in content else ""
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(content), "utf-8", newline=newline),
        delimiter=layout.delimiter,
        escapechar=escape,
        strict=True,
        skipinitialspace=layout.blanks,
    )
    numbered = [str(number) for number in range(width)]
    chunks, count, blank = [], 0, 0
    try:
        if layout.header:
            next(reader)
        head = reader.line_num
        for chunk in iter(lambda: list(islice(reader, _CHUNK_ROWS)), []):
            if [] in chunk:
                blank += chunk.count([])
                chunk = list(filter(None, chunk))
            _refuse_uneven(chunk, width, count, layout.delimiter)
            columns = [pa.array(column, pa.string()) for column in zip(*chunk, strict=True)]
            chunks += [pa.table(columns, numbered)] if chunk else []
            count += len(chunk)
    except csv.Error as error:
        raise _Unfit(
            f"line {reader.line_num}: a quote is out of place ({error}); double the quotes inside "
            "a quoted field, and quote the whole field"
        ) from None
    table = (
        pa.concat_tables(chunks)
        if chunks
        else pa.schema([(number, pa.string()) for number in numbered]).empty_table()
    )
    return table.rename_columns(layout.names), reader.line_num - head - blank


def _at_once(content: bytes, layout: Layout, lines: Lines) -> pa.Table | None:
    """The rows by Arrow, or None where it does not find as many as there are."""
    head = int(layout.header)
    parsing = pa.csv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=lines.enclosed > 0)
    try:
        table = _by_arrow(content, layout, parsing, skip_rows_after_names=head)
    except pa.ArrowInvalid:
        return None  # what is wrong, `csv` says by row
    return table if table.num_rows + head == lines.rows else None


def _by_arrow(
    content: bytes, layout: Layout, parsing: pa.csv.ParseOptions, **reading: int
) -> pa.Table:
    numbered = [str(number) for number in range(len(layout.names))]
    table = pa.csv.read_csv(
        pa.BufferReader(content),
        read_options=pa.csv.ReadOptions(column_names=numbered, block_size=_BLOCK_BYTES, **reading),
        parse_options=parsing,
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(numbered, pa.string()), strings_can_be_null=False
        ),
    )
    return table.rename_columns(layout.names)


def _refuse_uneven(rows: list[list[str]], width: int, first: int, delimiter: str) -> None:
    if set(map(len, rows)) <= {width}:
        return
    number, row = next((n, row) for n, row in enumerate(rows) if len(row) != width)
    raise _Unfit(_uneven(first + number, width, len(row), delimiter.join(row)))


def _uneven(row: int, expected: int, got: int, text: str) -> str:
    where = f"row {row}" if row >= 0 else "the header"
    return (
        f"{where}: Expected {expected} columns, got {got}: {shown(text)}; complete the row, or "
        "quote a field that holds the delimiter"
    )
