"""The items of a version beside its weights: titles, categories and recent popularity."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.vocabulary import Vocabulary
from sasrec.errors import DataError
from serving.engine.attributes import TextColumn, write_attributes

FILE = "items.parquet"
POPULARITY_WINDOW = timedelta(days=30)


@dataclass(frozen=True)
class ItemTable:
    """Item metadata in vocabulary order; row 0 is padding.

    Attributes:
        titles: V + 1 titles; the item id where there is none.
        categories: the distinct categories, "" for none among them.
        category_codes: (V + 1,) int64 indices into `categories`.
        popularity: (V + 1,) float32, events in the last `POPULARITY_WINDOW` of training.
    """

    titles: list[str]
    categories: list[str]
    category_codes: np.ndarray
    popularity: np.ndarray

    def search(self, text: str, limit: int) -> list[int]:
        """Items whose title has `text` in it, the most popular first; all of them for ""."""
        wanted = text.casefold()
        found = [i for i, title in enumerate(self.titles) if i and wanted in title.casefold()]
        return sorted(found, key=lambda item: -self.popularity[item])[:limit]

    def in_category(self, category: str) -> np.ndarray:
        """(V + 1,) bool."""
        if category not in self.categories:
            return np.zeros(len(self.titles), dtype=bool)
        return self.category_codes == self.categories.index(category)

    @property
    def category_column(self) -> TextColumn:
        """The categories as filters read them."""
        return TextColumn(self.category_codes, self.categories)


def write_items(
    directory: Path, vocabulary: Vocabulary, *, items: pa.Table, interactions: pa.Table
) -> Path:
    """Write `items.parquet` for a model directory, and what filters may ask beside it.

    Args:
        items: `sasrec.data.schema.ITEMS` and free columns; may lack items of the vocabulary.
        interactions: `sasrec.data.schema.INTERACTIONS` up to the training cutoff.
    """
    known = {
        row["item_id"]: row for row in items.select(["item_id", "title", "category"]).to_pylist()
    }
    newest = pc.max(interactions["timestamp"]).as_py()
    recent = (
        interactions.filter(pc.greater(interactions["timestamp"], newest - POPULARITY_WINDOW))
        if newest is not None
        else interactions
    )
    counts = np.bincount(vocabulary.encode(recent["item_id"]), minlength=len(vocabulary) + 1)
    rows = [known.get(item_id, {}) for item_id in vocabulary.item_ids]
    table = pa.table(
        {
            "item_id": pa.array(vocabulary.item_ids, pa.string()),
            "title": pa.array([row.get("title") for row in rows], pa.string()),
            "category": pa.array([row.get("category") for row in rows], pa.string()),
            "popularity": pa.array(counts[1:], pa.float32()),
        }
    )
    path = Path(directory) / FILE
    pq.write_table(table, path)
    write_attributes(directory, vocabulary.item_ids, items)
    return path


def load_items(directory: Path, vocabulary: Vocabulary) -> ItemTable:
    """The item table of a model directory; bare ids and no popularity where it has none.

    Raises:
        ValueError: the file lists other items than the vocabulary.
    """
    path = Path(directory) / FILE
    if not path.exists():
        size = len(vocabulary) + 1
        none, popularity = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.float32)
        return ItemTable(["", *vocabulary.item_ids], [""], none, popularity)
    table = pq.read_table(path)
    if table["item_id"].to_pylist() != vocabulary.item_ids:
        raise DataError(f"{FILE}: items differ from vocabulary.json")
    titles = [
        title or item_id
        for title, item_id in zip(table["title"].to_pylist(), vocabulary.item_ids, strict=True)
    ]
    categories, codes = np.unique(
        ["", *(c or "" for c in table["category"].to_pylist())], return_inverse=True
    )
    popularity = np.concatenate([[0], table["popularity"].to_numpy()]).astype(np.float32)
    return ItemTable(["", *titles], categories.tolist(), codes, popularity)
