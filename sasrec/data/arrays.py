"""One-dimensional arrays in `.npy` files: written piece by piece, read without being loaded."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from sasrec.errors import DataError


class ArrayWriter:
    """Appends to a new `.npy` file; leaving the `with` block makes it readable.

    numpy leaves room in a header for any length, so it is written first for no values at all, and
    once more when their number is known. A file that was never closed is thus one of no values.
    """

    def __init__(self, path: Path, dtype: np.dtype | type) -> None:
        self.path, self.dtype, self.length = path, np.dtype(dtype), 0
        self._file = path.open("wb")
        self._write_header()

    def append(self, values: np.ndarray) -> None:
        """Add `values` (n,), converted to the file's type."""
        np.ascontiguousarray(values, dtype=self.dtype).tofile(self._file)
        self.length += len(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._file.seek(0)
            self._write_header()
        self._file.close()

    def _write_header(self) -> None:
        description = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.length,),
        }
        np.lib.format.write_array_header_1_0(self._file, description)
        self._file.flush()


def map_array(path: Path) -> np.ndarray:
    """The array of a file, read from it where it is touched; nobody can write to it.

    Raises:
        DataError: the file is missing, cut short, longer than it says, or not of one dimension.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: this file is missing; extract the sequences again") from None
    except (ValueError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: {reason}; extract the sequences again") from None
    if array.ndim != 1 or array.offset + array.nbytes != path.stat().st_size:
        raise DataError(
            f"{path}: holds {path.stat().st_size:,} bytes, but says {array.shape} of "
            f"{array.dtype}; extract the sequences again"
        )
    return array
