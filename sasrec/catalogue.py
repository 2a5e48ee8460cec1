"""What metrics, slices and reports know about each item, as arrays over the vocabulary."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import Vocabulary

UNKNOWN_CATEGORY = -1


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
    """

    vocabulary: Vocabulary
    popularity: np.ndarray
    first_seen: np.ndarray
    categories: np.ndarray
    category_names: list[str]
    titles: list[str]

    @classmethod
    def build(
        cls, vocabulary: Vocabulary, train: PackedSequences, items: pa.Table | None = None
    ) -> "Catalogue":
        """Count `train` and look up titles and categories in `items` (`sasrec.schema.ITEMS`)."""
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
