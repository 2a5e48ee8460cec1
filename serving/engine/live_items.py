"""A version together with what the shop said of its items since: new, changed and gone ones.

New items follow those of the version: of V items and N new ones, the indices are 1..V + N. The row
of a new item is made of its features, by the table that the model learned; a model without item
features gives it the mean row of its category's items, and without such the mean of all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sasrec.data.vocabulary import PADDING, Vocabulary
from serving.engine.attributes import ITEM_ID, Value, attributes_of_records
from serving.engine.engine import TINY, Engine
from serving.engine.items import ItemTable
from serving.engine.ranking import Ranking, score, score_batch, top_candidates
from serving.filters import Condition, Filter, Kind

FEW_IMPRESSIONS = 30
"""Up to which an item is drawn on purpose: from then on its clicks begin to say something."""

Item = Mapping[str, Any]  # an item record of `feature_repo.event_codec`


class LiveEngine(Engine):
    """An engine that knows the items of a live catalogue as well. Immutable, as engines are.

    Attributes:
        version_alone: the engine of the version.

    Args:
        engine: of the version.
        items: the newest record of each item.
        impressions: how often items were shown, as far as that is known.
        earlier: the same version with an earlier state of the catalogue: rows are taken over.
    """

    def __init__(
        self,
        engine: Engine,
        items: Mapping[str, Item],
        impressions: Mapping[str, int],
        earlier: "LiveEngine | None" = None,
    ) -> None:
        vars(self).update(vars(engine))  # all of it is shared: only what follows differs
        self.version_alone = engine
        new = [item_id for item_id in items if item_id not in engine.vocabulary]
        self.vocabulary = _Extended(engine.vocabulary, new)
        indices = self.vocabulary.encode(items)
        self._indices, self._masks = indices, {}
        self._attributes = attributes_of_records(items.values(), engine.kinds)
        self.items = _with_items(engine, indices, list(items.values()), len(new))
        available = np.array([item["available"] for item in items.values()], dtype=bool)
        self._gone = indices[~available]
        few = np.array([impressions.get(item_id, 0) < FEW_IMPRESSIONS for item_id in items], bool)
        self._new = indices[few & available & (self.items.popularity[indices] == 0)]
        self._is_new = np.zeros(len(self.vocabulary) + 1, dtype=bool)
        self._is_new[self._new] = True
        known_rows = {} if earlier is None else earlier._rows
        self._rows: dict[tuple[str, str], Tensor] = {}
        for item_id in new:
            key = (item_id, items[item_id]["update_id"])
            known = known_rows.get(key)
            self._rows[key] = self._row(engine, items[item_id]) if known is None else known
        self._side = torch.stack(list(self._rows.values())) if new else self._base[:0]

    def eligible(self, **wanted: Any) -> np.ndarray:
        """As `Engine.eligible`, without items that are gone."""
        eligible = super().eligible(**wanted)
        eligible[self._gone] = False
        return eligible

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """As `Engine.kinds`; where the shop says another kind than the version, the version's."""
        return {**self._attributes.kinds, **self.version_alone.kinds}

    def _new_mask(self, wanted: Filter) -> np.ndarray:
        rows = len(self._indices)
        changed = wanted.mask(lambda condition: self._meets_of_records(condition, rows))
        return self._with_changed(self.version_alone.mask(wanted), changed)

    def meets(self, condition: Condition) -> np.ndarray:
        """As `Engine.meets`."""
        changed = self._meets_of_records(condition, len(self._indices))
        return self._with_changed(self.version_alone.meets(condition), changed)

    def _meets_of_records(self, condition: Condition, rows: int) -> np.ndarray:
        if condition.attribute == ITEM_ID:
            named = self.vocabulary.encode([str(value) for value in condition.values])
            return np.isin(self._indices, named)
        return self._attributes.meets(condition, rows)

    def _with_changed(self, of_version: np.ndarray, of_records: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self.vocabulary) + 1, dtype=bool)
        mask[: len(of_version)] = of_version
        mask[self._indices] = of_records
        return mask

    def values(self, attribute: str, index: int) -> Sequence[Value]:
        """As `Engine.values`."""
        if attribute == ITEM_ID:
            return super().values(attribute, index)
        row = self._row_of.get(index)
        if row is None:
            return self.version_alone.values(attribute, index)
        return self._attributes.values(attribute, row)

    @cached_property
    def _row_of(self) -> dict[int, int]:
        """Which record an index has."""
        return {index: row for row, index in enumerate(self._indices.tolist())}

    def new_items(self, eligible: np.ndarray) -> np.ndarray:
        """As `Engine.new_items`: items that hardly anybody has seen, and nobody trained on."""
        return self._new[eligible[self._new]]

    def still_new(self, items: np.ndarray) -> np.ndarray:
        """Those of `items` (n,) that are to be shown on purpose, whether eligible or not."""
        return items[self._is_new[items]]

    def rank_popular(self) -> Ranking:
        """As `Engine.rank_popular`; nobody has met the new items."""
        known = self.version_alone.rank_popular()
        return _SideRanking(known, len(self._base) - 1, np.zeros(len(self._side), np.float32))

    def _rankings(self, hidden: Tensor) -> Iterator[Ranking]:
        side = score_batch(self._side, hidden)
        for known, scores in zip(super()._rankings(hidden), side, strict=True):
            yield _SideRanking(known, len(self._base) - 1, scores)

    def _cosines(self, row: Tensor) -> np.ndarray:
        lengths = torch.linalg.vector_norm(self._side, dim=1) * torch.linalg.vector_norm(row)
        side = score(self._side, row) / np.maximum(lengths.numpy(), TINY)
        return np.concatenate([super()._cosines(row), side])

    @property
    def _base(self) -> Tensor:
        return self._encoder.matrix

    def _embed(self, indices: np.ndarray) -> Tensor:
        first = len(self._base)
        if indices.max() < first:
            return super()._embed(indices)
        is_new = indices >= first
        rows = super()._embed(np.where(is_new, PADDING, indices))
        rows[torch.from_numpy(is_new)] = self._side[torch.from_numpy(indices[is_new] - first)]
        return rows

    def _row(self, engine: Engine, item: Item) -> Tensor:
        described = {**item["attributes"], "category": item["category"], "title": item["title"]}
        row = engine.recommender.row_of(described)
        if row is not None:
            return row
        of_category = engine.items.in_category(item["category"] or "")
        of_category[PADDING] = False
        if not of_category.any():
            return self._base[1:].mean(dim=0)
        return self._base[torch.from_numpy(of_category)].mean(dim=0)


class _Extended(Vocabulary):
    """A vocabulary with new items after its own, without copying its index."""

    def __init__(self, base: Vocabulary, new: list[str]) -> None:
        self._known = base
        self.item_ids = base.item_ids + new
        self._index = {item_id: index for index, item_id in enumerate(new, start=len(base) + 1)}

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._known or item_id in self._index

    def encode(self, item_ids: Iterable[str] | pa.Array | pa.ChunkedArray) -> np.ndarray:
        """As `Vocabulary.encode`."""
        if isinstance(item_ids, pa.Array | pa.ChunkedArray):
            item_ids = item_ids.to_pylist()
        ids = list(item_ids)
        indices = self._known.encode(ids)
        for place in np.flatnonzero(indices == PADDING).tolist():
            indices[place] = self._index.get(ids[place], PADDING)
        return indices


class _SideRanking:
    """A version's ranking beside the scores of new items.

    Args:
        known: of the items 1..V.
        side: (N,) float32 scores of the items from V + 1 on.
    """

    def __init__(self, known: Ranking, num_known: int, side: np.ndarray) -> None:
        self._known, self._first, self._side = known, num_known + 1, side

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it."""
        found = np.concatenate(
            [
                self._known.best(eligible[: self._first], n),
                self._first + top_candidates(self._side, eligible[self._first :], n),
            ]
        )
        return found[np.lexsort((found, -self.scores(found)))[:n]]

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        is_new = items >= self._first
        scores = np.empty(len(items), dtype=np.float32)
        scores[~is_new] = self._known.scores(items[~is_new])
        scores[is_new] = self._side[items[is_new] - self._first]
        return scores


def _with_items(engine: Engine, indices: np.ndarray, items: list[Item], new: int) -> ItemTable:
    """The version's item table with `new` more rows, and what the records say of all of theirs."""
    table = engine.items
    titles = table.titles + [""] * new
    codes = np.concatenate([table.category_codes, np.zeros(new, dtype=np.int64)])
    numbers = {category: code for code, category in enumerate(table.categories)}
    for index, item in zip(indices.tolist(), items, strict=True):
        if not item["deleted"]:
            titles[index] = item["title"] or item["item_id"]
            codes[index] = numbers.setdefault(item["category"] or "", len(numbers))
        elif not titles[index]:
            titles[index] = item["item_id"]
            codes[index] = numbers.setdefault("", len(numbers))
    popularity = np.concatenate([table.popularity, np.zeros(new, dtype=np.float32)])
    return replace(
        table,
        titles=titles,
        categories=list(numbers),
        category_codes=codes,
        popularity=popularity,
    )
