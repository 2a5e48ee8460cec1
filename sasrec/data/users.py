"""User ids in an Arrow column: a sequence of strings that makes a string only where it is read."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import pyarrow as pa

from sasrec.errors import DataError

_SCHEMA = pa.schema([pa.field("user_id", pa.string(), nullable=False)])


class UserIds(Sequence[str]):
    """The ids of a column (n,) of strings."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self.column[index].to_pylist()
        return self.column[int(index)].as_py()

    def __iter__(self) -> Iterator[str]:
        for chunk in self.column.chunks:
            yield from chunk.to_pylist()

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.ChunkedArray:
        """What `pyarrow.array` takes without a detour through Python strings."""
        return self.column if type is None else self.column.cast(type)


class UserWriter:
    """Appends ids to a new Arrow file; leaving the `with` block makes it readable."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.ipc.new_file(path, _SCHEMA)

    def append(self, user_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> None:
        """Add ids, in their order."""
        self._writer.write_table(pa.table([as_column(user_ids)], schema=_SCHEMA))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()


def as_column(user_ids: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as a column of strings; what is one already is not copied."""
    if isinstance(user_ids, UserIds):
        return user_ids.column
    if isinstance(user_ids, pa.ChunkedArray):
        return user_ids.cast(pa.string())
    return pa.chunked_array([pa.array(user_ids, pa.string())])


def map_users(path: Path) -> UserIds:
    """The ids of a file, read from it where they are touched.

    Raises:
        DataError: the file is missing or was not written to its end.
    """
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except FileNotFoundError:
        raise DataError(f"{path}: this file is missing; extract the sequences again") from None
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: {reason}; extract the sequences again") from None
    return UserIds(table["user_id"])
