"""Packed sequences as a folder of `.npy` files, written as a stream and read by mapping them."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from sasrec.data.arrays import ArrayWriter, map_array
from sasrec.data.packed import PackedSequences
from sasrec.errors import DataError

ITEMS, CU_SEQLENS, TIMESTAMPS, WEIGHTS = (
    f"{name}.npy" for name in ("items", "cu_seqlens", "timestamps", "weights")
)


class SequenceWriter:
    """Appends histories to a folder, in place of what it held.

    Leaving the `with` block makes them readable.

    Args:
        weighted: write `weights.npy`; what is appended without weights weighs one.
    """

    def __init__(self, folder: Path, *, weighted: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).unlink(missing_ok=True)
        self._files = ExitStack()

        def array(name: str, dtype: type) -> ArrayWriter:
            return self._files.enter_context(ArrayWriter(folder / name, dtype))

        self._items, self._timestamps = array(ITEMS, np.int32), array(TIMESTAMPS, np.int64)
        self._weights = array(WEIGHTS, np.float32) if weighted else None
        # Last, so that it is closed first: a folder that lacks events also lacks their lengths.
        self._cu_seqlens = array(CU_SEQLENS, np.int64)
        self._cu_seqlens.append(np.zeros(1))

    @property
    def events(self) -> int:
        """Events so far."""
        return self._items.length

    @property
    def histories(self) -> int:
        """Histories so far."""
        return self._cu_seqlens.length - 1

    def append(self, packed: PackedSequences) -> None:
        """Add histories, in their order."""
        self._cu_seqlens.append(packed.cu_seqlens[1:].astype(np.int64) + self.events)
        for block in packed.blocks():
            self._items.append(packed.items[block])
            self._timestamps.append(packed.timestamps[block])
            if self._weights is not None:
                weights = packed.weights
                ones = np.ones(block.stop - block.start)
                self._weights.append(ones if weights is None else weights[block])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, traceback)


def save_packed(folder: Path, packed: PackedSequences) -> None:
    """Write all of `packed`."""
    with SequenceWriter(folder, weighted=packed.weights is not None) as writer:
        writer.append(packed)


def map_packed(folder: Path) -> PackedSequences:
    """The histories of a folder: its arrays are mapped, and read where they are touched.

    Raises:
        DataError: a file is missing or cut short, or the files do not belong together.
    """
    weighted = (folder / WEIGHTS).exists()
    packed = PackedSequences(
        map_array(folder / ITEMS),
        map_array(folder / CU_SEQLENS),
        map_array(folder / TIMESTAMPS),
        map_array(folder / WEIGHTS) if weighted else None,
    )
    events = int(packed.cu_seqlens[-1]) if len(packed.cu_seqlens) else -1
    for name, array in (
        (ITEMS, packed.items),
        (TIMESTAMPS, packed.timestamps),
        (WEIGHTS, packed.weights),
    ):
        if array is not None and len(array) != events:
            raise DataError(
                f"{folder / name}: holds {len(array):,} events, but {CU_SEQLENS} ends at "
                f"{events:,}; extract the sequences again"
            )
    return packed


def concatenate(parts: list[PackedSequences]) -> PackedSequences:
    """The histories of all parts, in their order, in memory."""
    ends = np.cumsum([0, *(len(part.items) for part in parts)])
    cu_seqlens = [part.cu_seqlens[1:] + start for part, start in zip(parts, ends, strict=False)]
    weights = [part.weights for part in parts if part.weights is not None]
    return PackedSequences(
        np.concatenate([part.items for part in parts]),
        np.concatenate([[0], *cu_seqlens]).astype(np.int32),
        np.concatenate([part.timestamps for part in parts]),
        np.concatenate(weights) if weights else None,
    )
