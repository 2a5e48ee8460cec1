"""Delimited text as a table of strings: encoding, delimiter, quotes and header found out."""

from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.sources.encoding import decode
from sasrec.data.sources.faults import first_row
from sasrec.data.sources.layout import ML_100K_GENRES, PUBLISHED, Layout, find_layout, without_top
from sasrec.data.sources.rows import read_rows
from sasrec.errors import DataError


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
    content, notes = decode(content, source=source, legacy=name in PUBLISHED)
    content, skipped = without_top(content)
    if not content:
        raise DataError(f"{source}: the file is empty")
    if skipped:
        notes.append(f"{name}: comments before the first row, skipped: {skipped}")
    content, layout = find_layout(content, name=name, source=source)
    table = read_rows(content, layout, source=source)
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
        for genre in ML_100K_GENRES
    ]
    genres = pc.binary_join_element_wise(*flags, " ", null_handling="skip")
    return table.select(["item_id", "title", "release_date"]).append_column("genres", genres)
