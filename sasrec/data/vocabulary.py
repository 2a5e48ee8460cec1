"""The item vocabulary: the bijection between item ids and rows of the embedding table."""

import json
from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.errors import DataError

PADDING = 0


class Vocabulary:
    """Contiguous integer ids for items: 0 is padding, real items are 1..len(vocabulary).

    Args:
        item_ids: distinct, non-empty ids; position i becomes index i + 1.

    Raises:
        DataError: an id is repeated or empty.
    """

    def __init__(self, item_ids: Iterable[str]) -> None:
        self.item_ids = list(item_ids)
        self._index = {item_id: index for index, item_id in enumerate(self.item_ids, start=1)}
        if len(self._index) != len(self.item_ids):
            raise DataError("vocabulary: column 'item_id' holds an id twice")
        if "" in self._index:
            raise DataError(f"vocabulary: item_id at row {self._index[''] - 1} is empty")

    def __len__(self) -> int:
        """Number of items, padding not counted."""
        return len(self.item_ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._index

    def encode(self, item_ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Indices (n,) int64; an unknown item becomes `PADDING`. Fastest on an Arrow column."""
        if isinstance(item_ids, pa.Array | pa.ChunkedArray):
            position = pc.index_in(item_ids, value_set=pa.array(self.item_ids, pa.string()))
            return pc.add(position.cast(pa.int64()), 1).fill_null(PADDING).to_numpy()
        return np.fromiter(map(self._index.get, item_ids, repeat(PADDING)), dtype=np.int64)

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Item ids of indices in 1..len(self)."""
        return [self.item_ids[index - 1] for index in indices]

    def extended(self, item_ids: Iterable[str]) -> "Vocabulary":
        """This vocabulary with unseen items appended: existing items keep their index."""
        return Vocabulary(self.item_ids + [i for i in dict.fromkeys(item_ids) if i not in self])

    def save(self, path: Path) -> None:
        """Write the ids as a JSON list, in the order of their indices."""
        path.write_text(json.dumps(self.item_ids, ensure_ascii=False))

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        return cls(json.loads(path.read_text()))
