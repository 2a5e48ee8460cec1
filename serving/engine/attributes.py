"""What is said of items beyond title and category, column by column, for filters and limits.

A version has a file of its columns, read when a rule first asks for one: a site without rules pays
nothing. Items of the live catalogue have columns of their own records.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.schema import ITEMS
from serving.filters import COMPARE, MAX_NAME, NOT, Condition, Kind

FILE = "attributes.parquet"
SEPARATOR = "|"  # between several values of a text
CATEGORY, CREATED_AT, ITEM_ID = "category", "created_at", "item_id"
# Titles are searched, not filtered; categories are in the item table already.
NOT_FILTERED = {*ITEMS.names, "available", NOT} - {CREATED_AT}

Value = str | float


class Column(Protocol):
    """The values of one attribute of n rows."""

    @property
    def kind(self) -> Kind:
        """Of the values."""
        ...

    def meets(self, condition: Condition) -> np.ndarray:
        """(n,) bool."""
        ...

    def values(self, row: int) -> Sequence[Value]:
        """Of one row, as a `Condition` has them; none where there is none."""
        ...


@dataclass(frozen=True)
class TextColumn:
    """Texts, each perhaps of several values.

    Attributes:
        codes: (n,) int, which of `texts`.
        texts: the distinct ones, "" for none.
    """

    codes: np.ndarray
    texts: Sequence[str]
    kind: Kind = "text"

    def meets(self, condition: Condition) -> np.ndarray:
        """As `Column` has it."""
        met = np.zeros(len(self.texts), dtype=bool)
        for value in condition.values:
            met[self._texts_with.get(str(value), [])] = True
        return met[self.codes]

    def values(self, row: int) -> Sequence[Value]:
        """As `Column` has it."""
        return _parts(self.texts[self.codes[row]])

    @cached_property
    def _texts_with(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for code, text in enumerate(self.texts):
            for value in {text, *_parts(text)} if text else ():
                found.setdefault(value, []).append(code)
        return found


@dataclass(frozen=True)
class NumberColumn:
    """Numbers, truth values as 1 and 0, or microseconds since the epoch.

    Attributes:
        numbers: (n,) float64, NaN for none.
    """

    numbers: np.ndarray
    kind: Kind = "number"

    def meets(self, condition: Condition) -> np.ndarray:
        """As `Column` has it."""
        if condition.bounds:
            return np.logical_and.reduce(
                [COMPARE[name](self.numbers, limit) for name, limit in condition.bounds]
            )
        return np.isin(self.numbers, [float(value) for value in condition.values])

    def values(self, row: int) -> Sequence[Value]:
        """As `Column` has it."""
        number = float(self.numbers[row])
        return () if np.isnan(number) else (number,)


class Attributes:
    """The columns of some rows, each read when it is first asked for.

    Attributes:
        kinds: of every attribute by its name.

    Args:
        read: makes the column of a name in `kinds`.
    """

    def __init__(self, kinds: Mapping[str, Kind], read: Callable[[str], Column]) -> None:
        self.kinds = kinds
        self._read = read
        self._columns: dict[str, Column] = {}

    def meets(self, condition: Condition, rows: int) -> np.ndarray:
        """(rows,) bool; an attribute that nothing has, or of another kind, meets nothing."""
        if self.kinds.get(condition.attribute) != condition.kind:
            return np.zeros(rows, dtype=bool)
        return self.column(condition.attribute).meets(condition)

    def values(self, attribute: str, row: int) -> Sequence[Value]:
        """Of one row."""
        return self.column(attribute).values(row) if attribute in self.kinds else ()

    def column(self, attribute: str) -> Column:
        """Of a name in `kinds`."""
        if attribute not in self._columns:
            self._columns[attribute] = self._read(attribute)
        return self._columns[attribute]


def write_attributes(directory: Path, item_ids: Sequence[str], items: pa.Table) -> None:
    """Write `attributes.parquet` for a model directory: what filters may ask of its items.

    Args:
        item_ids: of the vocabulary, in its order.
        items: `sasrec.data.schema.ITEMS` and free columns; those of text, numbers and truth values
            are taken.
    """
    names = [name for name in items.column_names if _kind_of(items.schema.field(name)) is not None]
    if names:
        rows = pc.index_in(
            pa.array(item_ids, pa.string()), value_set=items["item_id"].cast(pa.string())
        )
        pq.write_table(items.select(names).take(rows), Path(directory) / FILE)


def load_attributes(directory: Path, categories: TextColumn) -> Attributes:
    """Of a version, row 0 for padding; of one without the file the categories alone."""
    path = Path(directory) / FILE
    kinds: dict[str, Kind] = {CATEGORY: "text"}
    for field in pq.read_schema(path) if path.exists() else ():
        if kind := _kind_of(field):
            kinds[field.name] = kind

    def read(name: str) -> Column:
        if name == CATEGORY:
            return categories
        return _column(pq.read_table(path, columns=[name])[name].combine_chunks(), kinds[name])

    return Attributes(kinds, read)


def attributes_of_records(
    records: Iterable[Mapping[str, Any]], known: Mapping[str, Kind]
) -> Attributes:
    """Of item records of `feature_repo.event_codec`, in their order.

    Args:
        known: kinds of the version's attributes: a value of another kind is none.
    """
    described = [
        {**one["attributes"], CATEGORY: one["category"], CREATED_AT: one["created_at"]}
        for one in records
    ]
    kinds: dict[str, Kind] = {CATEGORY: "text", CREATED_AT: "time"}
    for one in described:
        for name, value in one.items():
            if value is not None:
                kinds.setdefault(name, known.get(name) or _kind_of_value(value))

    def read(name: str) -> Column:
        kind = kinds[name]
        values = [one.get(name) for one in described]
        if kind == "time":
            return NumberColumn(np.array([np.nan if v is None else v for v in values]), kind)
        same = [v if v is not None and _kind_of_value(v) == kind else None for v in values]
        if kind != "text":
            return NumberColumn(np.array([np.nan if v is None else float(v) for v in same]), kind)
        texts = {text: code for code, text in enumerate(dict.fromkeys(["", *filter(None, same)]))}
        return TextColumn(np.array([texts[v or ""] for v in same], dtype=np.int32), list(texts))

    return Attributes(kinds, read)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for part in dict.fromkeys(text.split(SEPARATOR)) if part)


def _kind_of(field: pa.Field) -> Kind | None:
    """Of a column that filters may ask for; None for any other."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if field.name in NOT_FILTERED or not 0 < len(field.name) <= MAX_NAME:
        return None
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return None


def _kind_of_value(value: Any) -> Kind:
    if isinstance(value, str):
        return "text"
    return "truth" if isinstance(value, bool) else "number"


def _column(values: pa.Array, kind: Kind) -> Column:
    """Of a version's items, with row 0 before them."""
    if kind == "text":
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        encoded = values.fill_null("").dictionary_encode()
        texts = ["", *encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32) + 1
        return TextColumn(np.concatenate([np.zeros(1, np.int32), codes]), texts)
    if kind == "time":
        values = values.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return NumberColumn(np.concatenate([[np.nan], numbers]).astype(np.float64), kind)
