"""Delimited text as a table of strings: encoding, delimiter, quotes and header found out.

Text without quotes is split by Arrow. Text with quotes is read by the standard library's `csv`,
strictly: on the same inputs DuckDB returned no rows where a quote is never closed, and Arrow a
longer table where a quoted field spans lines. A reading counts only if every row has the same
number of fields, so that a wrong guess ends in a message and not in other rows.
"""

import csv
import io
import re
import sys
from itertools import islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sasrec.data.sources.columns import names_an_id
from sasrec.data.sources.faults import first_row, shown, told_as_data_errors
from sasrec.errors import DataError

# Files without a header whose columns their publisher fixed.
# fmt: off
_ML_100K_GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on
_PUBLISHED = {
    "movies.dat": ("::", ["item_id", "title", "genres"]),
    "u.item": ("|", ["item_id", "title", "release_date", "video_date", "url", *_ML_100K_GENRES]),
}
# Any other file without a header: what its columns are, by their number.
_HEADERLESS_COLUMNS = {
    2: ["user_id", "item_id"],
    3: ["user_id", "item_id", "timestamp"],
    4: ["user_id", "item_id", "rating", "timestamp"],
}
# In order of preference where two would do equally well; a space is the last resort.
_DELIMITERS = ("\t", ",", ";", "|", "::")
_SAMPLE_BYTES, _SAMPLE_ROWS = 1 << 16, 200
_CHUNK_ROWS = 1 << 16
_BLOCK_BYTES = 1 << 24  # the longest line without quotes

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or an Excel workbook; unpack it, or save it as CSV",
    b"PAR1": "Parquet; name it .parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save it as CSV",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it, or compress it by gzip",
    b"BZh": "compressed by bzip2; unpack it, or compress it by gzip",
}
_VALUE = re.compile(
    r"\s*[-+]?(\d[\d.,]*|\.\d+)(e[-+]?\d+)?\s*$|\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?!\d)", re.I
)


class Layout(NamedTuple):
    """How the rows of a file are written.

    Attributes:
        delimiter: one character.
        names: of the columns; "" for one that only a delimiter at each row's end makes.
        header: whether the first row holds the names.
        blanks: whether a space follows each delimiter.
    """

    delimiter: str
    names: list[str]
    header: bool
    blanks: bool


class _Unfit(Exception):
    """A reading that does not fit the file, and what to say if none does."""


def read_text(content: bytes, *, name: str, source: str) -> tuple[pa.Table, list[str]]:
    """The columns of a file under their own names, all strings, and notes.

    Args:
        content: the file's bytes.
        name: the file's name, by which a published format is recognised.
        source: the file, for messages.

    Raises:
        DataError: the file is empty, not text, without a header that it needs, or a row has
            more or fewer fields than the first.
    """
    content, notes = decode(content, source=source, legacy=name in _PUBLISHED)
    content, skipped = _without_top(content)
    if not content:
        raise DataError(f"{source}: the file is empty")
    if skipped:
        notes.append(f"{name}: comments before the first row, skipped: {skipped}")
    content, layout = _layout(content, name=name, source=source)
    table = _read(content, layout, source=source)
    if layout.names[-1] == "":
        row = first_row(pc.not_equal(table.column(table.num_columns - 1), ""))
        if row >= 0:
            raise DataError(
                f"{source}: row {row}: Expected {len(layout.names) - 1} columns, got "
                f"{len(layout.names)}; name the last one in the header"
            )
        table = table.select(range(table.num_columns - 1))
    if layout.blanks:
        table = pa.table([pc.utf8_ltrim_whitespace(c) for c in table.columns], table.column_names)
    _reject_second_header(table, layout, source=source)
    return (_genres_from_flags(table) if name == "u.item" else table), notes


def decode(content: bytes, *, source: str, legacy: bool) -> tuple[bytes, list[str]]:
    """The text as UTF-8 without a mark, and notes.

    Args:
        legacy: take it for Latin-1 if it is no UTF-8.

    Raises:
        DataError: it is no text, or in an encoding that cannot be told.
    """
    for magic, what in _OTHER_KINDS.items():
        if content.startswith(magic):
            raise DataError(f"{source}: is not text but {what}")
    mark, encoding = next(((m, e) for m, e in _BOMS if content.startswith(m)), (b"", ""))
    if not mark:
        encoding = _encoding_without_mark(content)
    content = content.removeprefix(mark)
    notes = []
    try:
        if encoding == "utf-8":
            content.decode()
        else:
            content = content.decode(encoding).encode()
            notes.append(f"{Path(source).name}: read as {encoding.upper()}")
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        if not (legacy and encoding == "utf-8"):
            bad = content[at : at + 1].hex()
            raise DataError(
                f"{source}: line {_line(content, at)} is not {encoding.upper()} (byte 0x{bad}); "
                "save the file as UTF-8"
            ) from None
        content = content.decode("latin-1").encode()
    nul = content.find(b"\0")
    if nul >= 0:
        raise DataError(
            f"{source}: line {_line(content, nul)} holds a NUL byte; remove it, or write the "
            "file again"
        )
    return content, notes


def _encoding_without_mark(content: bytes) -> str:
    """UTF-16 shows by the zero byte of each ASCII character."""
    head = content[:1024]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[first::2].count(0), head[1 - first :: 2].count(0)
        if zeros > 0.4 * (len(head) // 2) and not others:
            return encoding
    return "utf-8"


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1


def _first_line(content: bytes) -> bytes:
    return re.match(rb"[^\r\n]*(\r\n|\n|\r|$)", content).group()  # type: ignore[union-attr]


def _without_top(content: bytes) -> tuple[bytes, int]:
    """Without blank lines and comments before the first row, and the number of comments.

    Excel's `sep=;` goes as well. A line that begins with '#' is a comment unless it has as many
    fields as the row below.
    """
    rest, comments = content, []
    while rest:
        line = _first_line(rest)
        if line.strip().startswith(b"#"):
            comments.append(line)
        elif re.fullmatch(rb"\"?sep=.\"?\s*", line, re.I):
            pass  # Excel's word on the delimiter, which the rows tell as well
        elif line.strip() or (line.endswith(b"\r") and b"\n" in content):
            break
        rest = rest[len(line) :]
    if not comments:
        return rest, 0
    delimiter = _delimiter(rest)
    below = _first_line(rest).decode().strip()
    widths = {line.decode().strip().count(delimiter) for line in comments}
    if rest and delimiter != " " and below.count(delimiter) in widths:
        return content.lstrip(b"\r\n"), 0
    return rest, len(comments)


def _layout(content: bytes, *, name: str, source: str) -> tuple[bytes, Layout]:
    """How the rows are written, and the content with a delimiter of one character."""
    published, names = _PUBLISHED.get(name, (None, None))
    delimiter = published or _delimiter(content)
    if delimiter == "::":
        # Neither reader splits at two characters.
        delimiter = next((d for d in "\x1f\x1e\x1d\t" if d.encode() not in content), "")
        if not delimiter:
            raise DataError(f"{source}: has control characters; write it as CSV")
        content = content.replace(b"::", delimiter.encode())
    first, second = [*_sample(content, delimiter, csv.QUOTE_MINIMAL)[:2], [], []][:2]
    if names:
        return content, Layout(delimiter, list(names), False, False)
    blanks = delimiter != " " and len(first) > 1 and all(f.startswith(" ") for f in first[1:])
    stripped = [field.strip().strip('"').strip() for field in first]
    header = any(map(names_an_id, stripped)) or not any(map(_VALUE.match, first))
    if header:
        # RecBole writes `name:type`.
        names = [re.sub(r":(token|float)(_seq)?$", "", field) for field in stripped]
        if len(second) == len(names) + 1 and second[-1] == "":
            names.append("")
    else:
        width = len(first) - (first[-1] == "")
        if width not in _HEADERLESS_COLUMNS:
            raise DataError(
                f"{source}: no header, and {width} columns could mean anything; add a header line"
            )
        names = [*_HEADERLESS_COLUMNS[width], *([""] if width < len(first) else [])]
    return content, Layout(delimiter, names, header, blanks)


def _delimiter(content: bytes) -> str:
    """The one that splits most rows of a sample into as many fields as the first has."""
    best, chosen = (0.0, 0), " "
    for delimiter in _DELIMITERS:
        sample = content[:_SAMPLE_BYTES]
        single = delimiter
        if delimiter == "::":
            sample, single = sample.replace(b"::", b"::\x1f"), "\x1f"  # its length stays enough
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = _sample(sample, single, quoting)
            width = len(rows[0]) if rows else 0
            if width < 2:
                continue
            alike = sum(_fits(row, width) for row in rows) / len(rows)
            if (alike, width) > best:
                best, chosen = (alike, width), delimiter
    return chosen


def _fits(row: list[str], width: int) -> bool:
    return len(row) == width or (len(row) == width + 1 and row[-1] == "")


def _sample(content: bytes, delimiter: str, quoting: int) -> list[list[str]]:
    """The first rows, without one that the sample's end may cut."""
    text = content[:_SAMPLE_BYTES].decode(errors="ignore")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting)  # type: ignore[arg-type]
    rows = list(islice(filter(None, reader), _SAMPLE_ROWS))
    cut = len(content) >= _SAMPLE_BYTES and len(rows) < _SAMPLE_ROWS
    return rows[:-1] if cut and len(rows) > 1 else rows


def _read(content: bytes, layout: Layout, *, source: str) -> pa.Table:
    """The rows below the header, by the first reading that fits every one.

    Raises:
        DataError: none fits, or two fit that differ in the number of rows.
    """
    # Many writers quote the header alone.
    body = len(_first_line(content)) if layout.header else 0
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
            f"line {_line(content, stray.start())} holds a carriage return inside; remove it, or "
            "quote the field"
        )
    bad: list[pa.csv.InvalidRow] = []
    head = int(layout.header)

    def refuse(row: pa.csv.InvalidRow) -> str:
        bad.append(row)
        return "error"

    numbered = [str(number) for number in range(len(layout.names))]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(
                column_names=numbered,
                skip_rows=head,
                use_threads=False,  # or rows have no number
                block_size=_BLOCK_BYTES,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.delimiter, quote_char=False, invalid_row_handler=refuse
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if bad:
            number = bad[0].number - 1 - head
            raise _Unfit(
                _uneven(number, len(layout.names), bad[0].actual_columns, bad[0].text)
            ) from None
        with told_as_data_errors(source, "is every line shorter than 16 MB?"):
            raise error
    return table.rename_columns(layout.names)


def _quoted(content: bytes, layout: Layout, escape: str | None) -> tuple[pa.Table, int]:
    """Rows and fields as RFC 4180 has them, and the number of lines that they fill."""
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


def _reject_second_header(table: pa.Table, layout: Layout, *, source: str) -> None:
    """Files put one after the other, headers included."""
    if not (layout.header and table.num_rows):
        return
    repeated = None
    for name, column in zip_longest(layout.names[: table.num_columns], table.columns):
        same = pc.equal(pc.utf8_trim_whitespace(column), name)
        repeated = same if repeated is None else pc.and_(repeated, same)
    row = first_row(repeated)
    if row >= 0:
        raise DataError(f"{source}: row {row} repeats the header; remove that line")


def _genres_from_flags(table: pa.Table) -> pa.Table:
    """`u.item` has one 0/1 column per genre; their names, joined by spaces instead."""
    flags = [
        pc.if_else(pc.equal(table[genre], "1"), genre, pa.scalar(None, pa.string()))
        for genre in _ML_100K_GENRES
    ]
    genres = pc.binary_join_element_wise(*flags, " ", null_handling="skip")
    return table.select(["item_id", "title", "release_date"]).append_column("genres", genres)
