"""What is known of an item besides its interactions, as rows of a hashed table.

Each value of each column is one feature, such as `category=shoes`; a text of several values
separated by `|` is several, and a number is the bin it falls into. Features are hashed into a table
of fixed size (Weinberger et al. 2009), so that a new category needs no new table and a later
training agrees on every row.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError

SEPARATOR = "|"
WORDS = ":words"  # after a column's name: its lower-case words are its features
MOST_CODES = 50  # whole numbers of more values than these are quantities, and binned
LEAST_SHARED = 2.0  # items to a value, on average, from which a column groups items by itself
BINS_PER_OCTAVE = 2
ROWS, OFFSETS, DESCRIPTION = "feature_rows.npy", "feature_offsets.npy", "item_features.json"
# Never chosen by itself: an id, a name, a moment, and what is known of an item that is gone.
_OWN_TO_AN_ITEM = ("item_id", "title", "created_at", "available")


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
            columns: names; `NAME:words` takes the words of a text.

        Raises:
            DataError: a column is missing, or of a type that makes no feature.
        """
        known = vocabulary.encode(items["item_id"].combine_chunks())
        owners, hashed = [], []
        for column in columns:
            rows, values = _values(items, column)
            owner = known[rows]
            owners.append(owner[owner > 0])
            hashed.append(_hash(values, column, buckets)[owner > 0])
        owner = np.concatenate([np.zeros(0, dtype=np.int64), *owners])
        feature = np.concatenate([np.zeros(0, dtype=np.int64), *hashed])
        counts = np.bincount(owner, minlength=len(vocabulary) + 1)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return cls(feature[np.argsort(owner, kind="stable")], offsets)

    def save(self, directory: Path, columns: "FeatureColumns") -> None:
        """Write the arrays, and which columns they are of."""
        np.save(directory / ROWS, self.rows)
        np.save(directory / OFFSETS, self.offsets)
        columns.save(directory)

    @classmethod
    def load(cls, directory: Path) -> "ItemFeatures | None":
        """Read what `save` wrote; None where nothing was."""
        if not (directory / DESCRIPTION).exists():
            return None
        return cls(np.load(directory / ROWS), np.load(directory / OFFSETS))


@dataclass(frozen=True)
class FeatureColumns:
    """Which columns features are made of, so that a later item gets its own.

    Attributes:
        columns: names; `NAME:words` takes the words of a text.
        binned: those whose numbers are quantities.
    """

    columns: list[str]
    binned: list[str]

    @classmethod
    def of(cls, items: pa.Table, columns: Sequence[str]) -> "FeatureColumns":
        """As `ItemFeatures.of` reads these columns of the table."""
        return cls(
            list(columns), [n for n in columns if n in items.column_names and _binned(items[n])]
        )

    def save(self, directory: Path) -> None:
        """Write it into a folder of sequences, or of a model."""
        (directory / DESCRIPTION).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "FeatureColumns | None":
        """Read what `save` wrote; None where there is nothing, or nothing of what is binned."""
        path = directory / DESCRIPTION
        found = json.loads(path.read_text()) if path.exists() else {}
        return cls(**found) if "binned" in found else None

    def rows(self, item: Mapping[str, object], buckets: int) -> list[int]:
        """Rows of the hashed table for one item; none where it has no value in any column.

        Args:
            item: values by column in lower case: text, numbers, truth values or None.
        """
        found = []
        for column in self.columns:
            value = item.get(column.removesuffix(WORDS).lower())
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if column in self.binned:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                numbers = pa.array([value if is_number else None], pa.float64())
                values = _flat(pc.split_pattern(_bins(numbers).cast(pa.string()), SEPARATOR))[1]
            elif value is None:
                continue
            else:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                name = column.removesuffix(WORDS)
                values = _values(pa.table({name: pa.array([text], pa.string())}), column)[1]
            found += _hash(values, column, buckets).tolist()
        return found


def feature_columns(items: pa.Table, wanted: Sequence[str] | None) -> list[str]:
    """The columns to make features of: those wanted, or those that group items.

    By itself a column of text, truth values or codes is chosen whose values are shared by
    `LEAST_SHARED` items or more on average; never an item's id, title or date.

    Raises:
        DataError: a wanted column is missing, or nothing is wanted and no column groups items.
    """
    if wanted is not None:
        for column in wanted:
            _require(items, column.removesuffix(WORDS))
        return list(wanted)
    chosen = [name for name in items.column_names if _groups_items(items, name)]
    if not chosen:
        raise DataError(
            f"items: no column groups items, so there are no features; found {items.column_names}; "
            "name some in data.feature_columns, or set model.feature_buckets to 0"
        )
    return chosen


def described_items(items: pa.Table, columns: Sequence[str]) -> list[str]:
    """Ids of the items with at least one feature: what a model can rank without any event."""
    found = np.zeros(len(items), dtype=bool)
    for column in columns:
        found[_values(items, column)[0]] = True
    return items["item_id"].filter(pa.array(found)).to_pylist()


def _require(items: pa.Table, name: str) -> pa.Array:
    if name not in items.column_names:
        raise DataError(f"items: column '{name}' is missing; found {items.column_names}")
    return items[name].combine_chunks()


def _groups_items(items: pa.Table, name: str) -> bool:
    kind = items[name].type
    if name in _OWN_TO_AN_ITEM or not (
        pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)
    ):
        return False
    rows, values = _values(items, name)
    different = len(values.dictionary)
    return different >= 2 and len(np.unique(rows)) >= LEAST_SHARED * different


def _values(items: pa.Table, column: str) -> tuple[np.ndarray, pa.DictionaryArray]:
    """Row of the table (n,), and value, of each feature of a column."""
    name = column.removesuffix(WORDS)
    values = _require(items, name)
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = values.cast(kind.value_type)
        kind = values.type
    if column != name:
        words = pc.split_pattern_regex(pc.utf8_lower(values.cast(pa.string())), r"[^\pL\pN]+")
        return _flat(words)
    if _binned(values):
        values = _bins(values)
    elif not (pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise DataError(
            f"items: column '{name}' is {kind}; features are made of text, numbers, truth values"
        )
    return _flat(pc.split_pattern(values.cast(pa.string()), SEPARATOR))


def _binned(values: pa.Array | pa.ChunkedArray) -> bool:
    """Whether numbers are quantities, and no codes."""
    kind = values.type
    return pa.types.is_floating(kind) or (
        pa.types.is_integer(kind) and len(values.drop_null().unique()) > MOST_CODES
    )


def _flat(lists: pa.ListArray) -> tuple[np.ndarray, pa.DictionaryArray]:
    rows, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    filled = pc.fill_null(pc.not_equal(values, ""), False)
    return rows.filter(filled).to_numpy(), values.filter(filled).dictionary_encode()


def _bins(numbers: pa.Array) -> pa.Array:
    """Half octaves of the size, by sign: bins that need not know the other items' numbers."""
    known = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null is NaN
    size = np.where(known == 0, 1.0, np.abs(known))
    with np.errstate(invalid="ignore"):
        octave = np.floor(BINS_PER_OCTAVE * np.log2(size))
        bins = np.where(known == 0, 0, np.sign(known) * (octave + 10_000))
    return pa.array(bins, mask=~np.isfinite(bins)).cast(pa.int64())


def _hash(values: pa.DictionaryArray, column: str, buckets: int) -> np.ndarray:
    """(n,) int64; one hash for each different value, however many items share it."""
    hashed = np.fromiter(
        (zlib.crc32(f"{column}={value}".encode()) for value in values.dictionary.to_pylist()),
        dtype=np.int64,
        count=len(values.dictionary),
    )
    return (hashed % buckets)[values.indices.to_numpy()]
