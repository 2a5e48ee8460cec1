"""Read one file as it is: delimiter, header and encoding found out, text fields kept as text."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from sasrec.errors import DataError

SUFFIXES = (".parquet", ".csv", ".tsv", ".inter", ".item", ".txt", ".data", ".dat")

# Files without a header whose columns their publisher fixed.
# fmt: off
_ML_100K_GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary",
    "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi",
    "Thriller", "War", "Western",
]
# fmt: on
_PUBLISHED_COLUMNS = {
    "movies.dat": ["item_id", "title", "genres"],
    "u.item": ["item_id", "title", "release_date", "video_date", "url", *_ML_100K_GENRES],
}
# Any other file without a header: what its columns are, by their number.
_HEADERLESS_COLUMNS = {
    2: ["user_id", "item_id"],
    3: ["user_id", "item_id", "timestamp"],
    4: ["user_id", "item_id", "rating", "timestamp"],
}


def read_file(path: Path) -> pa.Table:
    """The columns of `path` under their own names; fields of a text file are all strings.

    Raises:
        DataError: the file is missing, empty, of an unknown kind, or a row has too few fields.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: cannot read '{path.suffix}' files; use one of {list(SUFFIXES)}")
    if path.suffix == ".parquet":
        try:
            return pa.parquet.read_table(path)
        except pa.ArrowInvalid as error:
            raise DataError(f"{path}: not a Parquet file ({error})") from None
    return _read_text(path)


def _read_text(path: Path) -> pa.Table:
    content = path.read_bytes()
    first_line = content[: content.find(b"\n") + 1 or None].decode("utf-8-sig", "replace").strip()
    if not first_line:
        raise DataError(f"{path}: the file is empty, or its first line is")
    delimiter = _delimiter(first_line)
    fields = first_line.split(delimiter)
    if delimiter == "::":  # Arrow splits at one character; no MovieLens field holds a tab
        content, delimiter = content.replace(b"::", b"\t"), "\t"
    names, has_header = _column_names(path, fields)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(
                column_names=names, skip_rows=int(has_header), encoding=_encoding(path)
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if delimiter == "," else False
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
    return _genres_from_flags(table) if path.name == "u.item" else table


def _delimiter(line: str) -> str:
    return next((d for d in ("::", "\t", "|", ";", ",") if d in line), " ")


def _encoding(path: Path) -> str:
    return "latin-1" if path.name in _PUBLISHED_COLUMNS else "utf8"


def _column_names(path: Path, fields: list[str]) -> tuple[list[str], bool]:
    """The columns' names, and whether they come from a header: a header has no numbers in it."""
    if path.name in _PUBLISHED_COLUMNS:
        return _PUBLISHED_COLUMNS[path.name], False
    if not any(_is_number(field) for field in fields):
        # RecBole writes `name:type`.
        return [re.sub(r":(token|float)(_seq)?$", "", f.strip().strip('"')) for f in fields], True
    if len(fields) in _HEADERLESS_COLUMNS:
        return _HEADERLESS_COLUMNS[len(fields)], False
    raise DataError(
        f"{path}: no header, and {len(fields)} columns could mean anything; add a header line"
    )


def _is_number(field: str) -> bool:
    try:
        float(field.strip('"'))
    except ValueError:
        return False
    return True


def _genres_from_flags(table: pa.Table) -> pa.Table:
    """`u.item` ends in one 0/1 column per genre: one column `genres` joined by spaces instead."""
    flags = [
        pc.if_else(pc.equal(table[genre], "1"), genre, pa.scalar(None, pa.string()))
        for genre in _ML_100K_GENRES
    ]
    genres = pc.binary_join_element_wise(*flags, " ", null_handling="skip")
    return table.select(["item_id", "title", "release_date"]).append_column("genres", genres)
