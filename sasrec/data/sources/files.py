"""Read one file as it is: what it is shows by its name, plain or compressed, in either case."""

import gzip
from pathlib import Path

import pyarrow as pa

from sasrec.data.sources.encoding import decode
from sasrec.data.sources.faults import told_as_data_errors
from sasrec.data.sources.jsonl import read_jsonl
from sasrec.data.sources.normalise import plain_table
from sasrec.data.sources.parquet import read_parquet
from sasrec.data.sources.text import read_text
from sasrec.errors import DataError

SUFFIXES = (
    ".parquet", ".csv", ".tsv", ".inter", ".item", ".txt", ".data", ".dat", ".jsonl", ".ndjson",
)  # fmt: skip
_GZIP_MAGIC = b"\x1f\x8b"


def plain_name(path: Path) -> str:
    """A file's name as it is compared: in lower case, without `.gz`."""
    return path.name.lower().removesuffix(".gz")


def suffix(path: Path) -> str:
    """Which of `SUFFIXES` a file's name ends in, or another."""
    return Path(plain_name(path)).suffix


def read_file(path: Path) -> tuple[pa.Table, list[str]]:
    """The columns of `path` under their own names, in plain types, and notes.

    Fields of a delimited text are all strings.

    Raises:
        DataError: the file is missing, empty, of an unknown kind, damaged, or a row has too few
            or too many fields.
    """
    if not (path.is_file() or (path.is_dir() and suffix(path) == ".parquet")):
        raise DataError(f"{path}: no such file")
    if suffix(path) not in SUFFIXES:
        raise DataError(
            f"{path}: cannot read '{path.suffix}' files; use one of {list(SUFFIXES)}, "
            "text also as .gz"
        )
    if suffix(path) == ".parquet":
        if path.suffix.lower() == ".gz":
            raise DataError(f"{path}: Parquet compresses itself; unpack the file")
        return read_parquet(path), []
    with told_as_data_errors(path, "check its permissions, or write or copy it again"):
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    if suffix(path) in (".jsonl", ".ndjson"):
        content, notes = decode(content, source=str(path), legacy=False)
        table = read_jsonl(content, source=str(path))
    else:
        table, notes = read_text(content, name=plain_name(path), source=str(path))
    return plain_table(table, source=str(path)), notes
