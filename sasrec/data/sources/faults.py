"""What libraries say about a file, as one line in our own words."""

import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from sasrec.errors import DataError


@contextmanager
def told_as_data_errors(source: object, fix: str) -> Iterator[None]:
    """Whatever Arrow, zlib or the system cannot read is the file's fault, and named as such.

    Args:
        source: the file, and the column if it is known, as the message begins.
        fix: what to do about it.

    Raises:
        DataError: the block raised one of theirs.
    """
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeError) as error:
        said = str(error).strip() or type(error).__name__
        raise DataError(f"{source}: cannot be read ({said.splitlines()[0]}); {fix}") from None


def first_row(bad: pa.ChunkedArray | pa.Array) -> int:
    """The row of the first True, or -1."""
    row = 0
    for chunk in bad.chunks if isinstance(bad, pa.ChunkedArray) else [bad]:
        found = pa.compute.index(chunk, True).as_py()
        if found >= 0:
            return row + found
        row += len(chunk)
    return -1


def shown(value: object, most: int = 60) -> str:
    """A value of a file in a message: quoted, on one line, cut."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"


def at_other_rows(error: DataError, row: Callable[[int], int]) -> DataError:
    """The same error of a part of a column, naming rows of the whole."""

    def moved(match: re.Match[str]) -> str:
        return str(row(int(match.group())))

    return DataError(re.sub(r"(?<= at row )\d+", moved, str(error), count=1))
