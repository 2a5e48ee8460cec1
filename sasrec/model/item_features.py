"""What is known of an item besides its interactions, as rows of a hashed table.

Each value of each column is one feature, such as `category=shoes`; a text of several values
separated by `|` is several. Features are hashed into a table of fixed size (Weinberger et al.
2009), so that a new category needs no new table and a later training agrees on every row.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError

SEPARATOR = "|"


@dataclass(frozen=True)
class ItemFeatures:
    """The features of every item; those of item i are `rows[offsets[i]:offsets[i + 1]]`.

    Attributes:
        rows: (N,) int64 in 0..buckets - 1.
        offsets: (V + 2,) int64; item 0 is padding and has none.
    """

    rows: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(
        cls, items: pa.Table, vocabulary: Vocabulary, *, columns: Sequence[str], buckets: int
    ) -> "ItemFeatures":
        """Read `columns` of an item table for every item of the vocabulary.

        Args:
            items: `item_id` and the columns; items outside the vocabulary are skipped, and items
                without a row, or with null, have no feature.

        Raises:
            DataError: a column is missing.
        """
        for column in columns:
            if column not in items.column_names:
                raise DataError(f"items: column '{column}' is missing; found {items.column_names}")
        features: list[list[int]] = [[] for _ in range(len(vocabulary) + 1)]
        known = vocabulary.encode(items["item_id"].to_pylist())
        for column in columns:
            values = items[column].cast(pa.string()).to_pylist()
            for item, text in zip(known.tolist(), values, strict=True):
                if item and text is not None:
                    features[item] += [
                        zlib.crc32(f"{column}={value}".encode()) % buckets
                        for value in text.split(SEPARATOR)
                    ]
        offsets = np.cumsum([0, *(len(rows) for rows in features)])
        return cls(np.array([r for rows in features for r in rows], dtype=np.int64), offsets)
