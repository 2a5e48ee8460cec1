"""Parquet: one file, or a folder of parts as Spark, Dask and BigQuery write it."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sasrec.data.sources.faults import told_as_data_errors
from sasrec.data.sources.normalise import plain_table
from sasrec.errors import DataError

_FIX = "the file may be cut short: write or copy it again"


def part_files(path: Path) -> list[Path]:
    """The file itself, or the parts in the folder `x.parquet/` in the order of their names.

    Names that begin with `_` or `.` are the writer's own, such as `_SUCCESS`.

    Raises:
        DataError: the folder holds no part, or something else beside them.
    """
    if not path.is_dir():
        return [path]
    if (path / "_delta_log").is_dir():
        raise DataError(
            f"{path}: is a Delta table, whose parts hold removed rows as well; "
            "export it to a Parquet file"
        )
    inside = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not any(name.startswith(("_", ".")) for name in file.relative_to(path).parts)
    ]
    for file in inside:
        if file.suffix.lower() != ".parquet":
            raise DataError(f"{file}: is no Parquet part; take it out of {path.name}/")
    if not inside:
        raise DataError(f"{path}: the folder holds no *.parquet file")
    return inside


def read_parquet(path: Path) -> pa.Table:
    """The whole of a file or folder, in plain types.

    Raises:
        DataError: a part is no Parquet, is cut short, or has other columns than the first.
    """
    tables = []
    for part in part_files(path):
        file = open_part(part)
        with told_as_data_errors(part, _FIX):
            table = file.read()
        tables.append(_with_folders(plain_table(table, source=str(part)), path, part))
    for part, table in zip(part_files(path), tables, strict=True):
        if set(table.column_names) != set(tables[0].column_names):
            raise DataError(
                f"{part}: has the columns {table.column_names}, the first part of {path.name}/ "
                f"{tables[0].column_names}; write all parts alike"
            )
    with told_as_data_errors(path, "write all parts with the same types"):
        return pa.concat_tables(tables, promote_options="permissive")


def open_part(part: Path) -> pq.ParquetFile:
    """A file, to read from.

    Raises:
        DataError: it is none.
    """
    try:
        return pq.ParquetFile(part)
    except (pa.ArrowException, OSError) as error:
        said = str(error).strip().splitlines()[0]
        raise DataError(f"{part}: not a Parquet file ({said}); {_FIX}") from None


def read_batches(path: Path, rows: int, columns: list[str]) -> Iterator[pa.Table]:
    """`columns` of a file or folder, some rows at a time, in plain types.

    Raises:
        DataError: a page cannot be read.
    """
    for part in part_files(path):
        batches = open_part(part).iter_batches(rows, columns=columns)
        while True:
            with told_as_data_errors(part, _FIX):
                batch = next(batches, None)
            if batch is None:
                break
            yield plain_table(pa.Table.from_batches([batch]), source=str(part))


def _with_folders(table: pa.Table, root: Path, part: Path) -> pa.Table:
    """Hive's `day=2024-01-01/` as a column, unless the file has it itself."""
    if part == root:
        return table
    for folder in part.parent.relative_to(root).parts:
        name, equals, value = folder.partition("=")
        if equals and name not in table.column_names:
            column = pa.repeat(pa.scalar(value, pa.string()), table.num_rows)
            table = table.append_column(name, column)
    return table
