"""What metrics, slices and reports know about each item, as arrays over the vocabulary."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sasrec.data.packed import PackedSequences
from sasrec.data.schema import ITEMS
from sasrec.data.vocabulary import Vocabulary

UNKNOWN_CATEGORY = -1
UNKNOWN_LABEL = "unknown"
MOST_LABELS = 50  # a column of more values (a description, a price) makes no slices


@dataclass(frozen=True)
class Catalogue:
    """Item facts known at the training cut; row 0 is padding.

    Attributes:
        vocabulary: the items.
        popularity: (V + 1,) int64, training events.
        first_seen: (V + 1,) int64, microseconds of the first training event.
        categories: (V + 1,) int64 codes into `category_names`, `UNKNOWN_CATEGORY` where not given.
        category_names: what the codes mean.
        titles: V + 1 strings; the item id where there is no title.
        labels: free column of the items -> (V + 1,) strings, for columns of text, truth values or
            whole numbers with 2 to `MOST_LABELS` values; `UNKNOWN_LABEL` where not given.
    """

    vocabulary: Vocabulary
    popularity: np.ndarray
    first_seen: np.ndarray
    categories: np.ndarray
    category_names: list[str]
    titles: list[str]
    labels: dict[str, np.ndarray]

    @classmethod
    def build(
        cls, vocabulary: Vocabulary, train: PackedSequences, items: pa.Table | None = None
    ) -> "Catalogue":
        """Count `train`; titles and categories are from `items` (`sasrec.data.schema.ITEMS`)."""
        size = len(vocabulary) + 1
        first_seen = np.full(size, np.iinfo(np.int64).max)
        np.minimum.at(first_seen, train.items, train.timestamps)
        titles, categories = _described(vocabulary, items)
        names = sorted({name for name in categories if name})
        code = {name: index for index, name in enumerate(names)}
        return cls(
            vocabulary=vocabulary,
            popularity=np.bincount(train.items, minlength=size),
            first_seen=first_seen,
            categories=np.array([code.get(name, UNKNOWN_CATEGORY) for name in categories]),
            category_names=names,
            titles=titles,
            labels={} if items is None else _labels(vocabulary, items),
        )

    def __len__(self) -> int:
        """Number of items, padding not counted."""
        return len(self.vocabulary)


def _described(vocabulary: Vocabulary, items: pa.Table | None) -> tuple[list[str], list[str]]:
    """Titles and categories of padding and every item, in vocabulary order."""
    ids: list[str] = ["", *vocabulary.item_ids]
    if items is None:
        return ids, [""] * len(ids)
    item_ids = items["item_id"].to_pylist()
    title = dict(zip(item_ids, items["title"].to_pylist(), strict=True))
    category = dict(zip(item_ids, items["category"].to_pylist(), strict=True))
    return [title.get(i) or i for i in ids], [category.get(i) or "" for i in ids]


def _labels(vocabulary: Vocabulary, items: pa.Table) -> dict[str, np.ndarray]:
    rows = vocabulary.encode(items["item_id"].to_pylist())
    labels = {}
    for name in items.column_names:
        column = items[name]
        kinds = (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer)
        if name in ITEMS.names or not any(kind(column.type) for kind in kinds):
            continue
        if not 2 <= len(column.drop_null().unique()) <= MOST_LABELS:
            continue
        of_item = np.full(len(vocabulary) + 1, UNKNOWN_LABEL, dtype=object)
        of_item[rows] = column.cast(pa.string()).fill_null(UNKNOWN_LABEL).to_pylist()
        of_item[0] = UNKNOWN_LABEL  # items outside the vocabulary were written there
        labels[name] = of_item
    return labels
