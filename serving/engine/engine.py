"""One loaded model version: ranks the catalogue for one history."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch

from sasrec.data.repeats import repeats_allowed
from sasrec.data.roles import Roles
from sasrec.data.vocabulary import PADDING
from sasrec.model.encoder import Encoder
from sasrec.model.recommender import MICROSECONDS, Recommender
from sasrec.off_policy.calibration import FILE as CALIBRATION
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.policy import NO_ITEMS
from serving.engine.attributes import ITEM_ID, Value, load_attributes
from serving.engine.half import HalfMatrix
from serving.engine.index import accurate_index
from serving.engine.items import load_items
from serving.engine.live_trend import LiveTrend
from serving.engine.ranking import (
    BoundedRanking,
    ExactRanking,
    IndexRanking,
    Ranking,
    score_batch,
    top_candidates,
)
from serving.filters import Condition, Filter, Kind
from serving.registry.store import MANIFEST

PROBES, PROBE_LENGTH = 64, 20
SCORES_AT_ONCE = 8_000_000  # of a batch: 32 MB
SUM_ROUNDING = 2.0**-22  # of a bonus: what adding it to two scores may change
TINY = 1e-12  # a length of no direction
MASKS = 64  # of filters that are kept, a byte an item each


class Engine:
    """A version in memory, ready to answer. Requests share it: only its trend's counts move.

    Args:
        directory: a registered version.
        index_above: items above which an index is tried; none is by default.

    Attributes:
        roles: of event types, as the model was trained with them.
        repeats: whether items of the history are shown unless a request says otherwise, as the
            model was judged.
        index_recall: recall@100 of the index; None without one.
        trend: what recent counts add to the scores; None for a version without a trend.
    """

    def __init__(self, directory: Path, *, index_above: int | None = None) -> None:
        self.version = Path(directory).name
        self.recommender = Recommender.load(Path(directory))
        self.vocabulary = self.recommender.vocabulary
        self._encoder = Encoder(self.recommender.model)
        metadata = _metadata(Path(directory))
        self.roles = Roles.parse(metadata.get("event_roles", {}))
        self.repeats = repeats_allowed(metadata.get("split", {}))
        self.items = load_items(directory, self.vocabulary)
        self._attributes = load_attributes(Path(directory), self.items.category_column)
        self._masks: dict[Filter, np.ndarray] = {}
        self._keeping = Lock()
        self.trend = LiveTrend.load(Path(directory), self.vocabulary, self.items.popularity)
        calibrated = (Path(directory) / CALIBRATION).exists()
        self._calibration = Calibration.load(Path(directory)) if calibrated else None
        self._index, self.index_recall = None, None
        if index_above is not None and len(self.vocabulary) > index_above:
            self._index, recall = accurate_index(self._encoder.matrix, self._probes())
            self.index_recall = recall if self._index else None
        self._half = None if self._index else HalfMatrix.of(self._encoder.matrix)

    def describe(self, index: int) -> dict[str, str | None]:
        """Id, title and category of an item."""
        return {
            "item_id": self.vocabulary.item_ids[index - 1],
            "title": self.items.titles[index],
            "category": self.items.categories[self.items.category_codes[index]] or None,
        }

    def title(self, item_id: str) -> str:
        """The title of an item; the id itself where there is none."""
        [index] = self.vocabulary.encode([item_id])
        return item_id if index == PADDING else self.items.titles[index]

    def eligible(
        self, *, category: str | None, exclude: Sequence[str], seen: Sequence[str]
    ) -> np.ndarray:
        """(V + 1,) bool: what may be shown."""
        if category is None:
            eligible = np.ones(len(self.vocabulary) + 1, dtype=bool)
        else:
            eligible = self.items.in_category(category)
        eligible[self.vocabulary.encode(exclude)] = False
        eligible[self.vocabulary.encode(seen)] = False
        eligible[PADDING] = False
        return eligible

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Of the attributes that filters may ask for."""
        return {**self._attributes.kinds, ITEM_ID: "text"}

    def mask(self, wanted: Filter) -> np.ndarray:
        """(V + 1,) bool: what passes a filter. Kept for the next one that asks; not to be written.

        Of an attribute that no item has, nothing meets a condition.
        """
        found = self._masks.get(wanted)
        if found is None:
            found = self._new_mask(wanted)
            with self._keeping:  # a batch beside the event loop asks as well
                while len(self._masks) >= MASKS:
                    del self._masks[next(iter(self._masks))]
                self._masks[wanted] = found
        return found

    def _new_mask(self, wanted: Filter) -> np.ndarray:
        return wanted.mask(self.meets)

    def meets(self, condition: Condition) -> np.ndarray:
        """(V + 1,) bool: what meets one condition."""
        rows = len(self.vocabulary) + 1
        if condition.attribute == ITEM_ID:
            met = np.zeros(rows, dtype=bool)
            met[self.vocabulary.encode([str(value) for value in condition.values])] = True
            return met
        return self._attributes.meets(condition, rows)

    def values(self, attribute: str, index: int) -> Sequence[Value]:
        """Those that an item has of an attribute; a text may have several."""
        if attribute == ITEM_ID:
            return (self.vocabulary.item_ids[index - 1],)
        return self._attributes.values(attribute, index)

    def rank(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> Ranking | None:
        """The catalogue by score of the next item; None without a known item.

        Args:
            item_ids: the history, oldest first, unknown items included.
            timestamps: microseconds since the epoch, one per item.
        """
        [ranking] = self.rank_batch([(item_ids, timestamps)])
        return ranking

    def rank_popular(self) -> Ranking:
        """The catalogue by what everybody meets lately, for a history that says nothing."""
        popular = self.items.popularity if self.trend is None else self.trend.now.popularity
        return ExactRanking(popular)

    def rank_batch(
        self, histories: Sequence[tuple[Sequence[str], Sequence[int]]]
    ) -> Iterator[Ranking | None]:
        """As `rank` for each history, of one forward pass; scored as they are asked for.

        Args:
            histories: item ids and timestamps of each, as `rank` has them.
        """
        windows = [self._window(*history) for history in histories]
        known = [window for window in windows if len(window.items)]
        rankings = self._rankings(self._encode(known)) if known else iter(())
        for window in windows:
            yield next(rankings) if len(window.items) else None

    def _rankings(self, hidden: torch.Tensor) -> Iterator[Ranking]:
        """The catalogue for each of (B, dim) states; scores are computed block by block."""
        matrix = self._encoder.matrix
        now = None if self.trend is None else self.trend.now
        if self._index is not None:
            yield from (IndexRanking(state, matrix, self._index, now) for state in hidden)
            return
        bonus = None if now is None else now.bonus
        for block in hidden.split(max(1, SCORES_AT_ONCE // len(matrix))):
            if self._half is None:
                yield from map(ExactRanking, _with_bonus(score_batch(matrix, block), bonus))
                continue
            scores, bounds = self._half.score(block)
            if bonus is not None:
                bounds += SUM_ROUNDING * np.abs(bonus).max()
            of_each = zip(_with_bonus(scores, bonus), bounds.tolist(), block, strict=True)
            for approximate, bound, state in of_each:
                yield BoundedRanking(approximate, bound, state, matrix, bonus)

    def similar(self, item_id: str, eligible: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The eligible items whose embeddings point most nearly where this item's does.

        Args:
            eligible: (V + 1,) bool.

        Returns:
            Indices (<= k,) int64, nearest first, and cosines (<= k,) float32.

        Raises:
            KeyError: the model does not know the item.
        """
        [index] = self.vocabulary.encode([item_id])
        if index == PADDING:
            raise KeyError(item_id)
        cosines = self._cosines(self._embed(np.array([index]))[0])
        eligible = eligible.copy()
        eligible[index] = False
        nearest = top_candidates(cosines, eligible, k)
        return nearest, cosines[nearest]

    def cosines(self, items: np.ndarray, item: int) -> np.ndarray:
        """(n,) float32 of the embeddings of `items` (n,) with that of another one."""
        if not len(items):
            return np.empty(0, dtype=np.float32)
        rows = self._embed(items).numpy()
        row = self._embed(np.array([item]))[0].numpy()
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(row)
        return rows @ row / np.maximum(lengths, TINY)

    def _cosines(self, row: torch.Tensor) -> np.ndarray:
        """(V + 1,) float32 of all embeddings with (dim,) `row`."""
        length = max(float(torch.linalg.vector_norm(row)), TINY)
        return score_batch(self._encoder.matrix, row[None])[0] / (self._lengths * length)

    @cached_property
    def _lengths(self) -> np.ndarray:
        """(V + 1,) float32 norms of the output embeddings, never 0."""
        return np.maximum(np.linalg.norm(self._encoder.matrix.numpy(), axis=1), TINY)

    def new_items(self, eligible: np.ndarray) -> np.ndarray:
        """Indices (N,) int64 of the eligible items to show on purpose: none in a version alone."""
        return NO_ITEMS

    def scores(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> np.ndarray:
        """(V + 1,) float32 scores of the next item; -inf for padding.

        Without a known item in the history the model says 0 of every item, and the trend decides.

        Args:
            item_ids: the history, oldest first, unknown items included.
            timestamps: microseconds since the epoch, one per item.
        """
        bonus = None if self.trend is None else self.trend.now.bonus
        window = self._window(item_ids, timestamps)
        if len(window.items):
            scores = score_batch(self._encoder.matrix, self._encode([window]))
        else:
            scores = np.zeros((1, len(self._encoder.matrix)), dtype=np.float32)
        return _with_bonus(scores, bonus)[0]

    def _window(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> "_Window":
        indices = self.vocabulary.encode(item_ids)
        known = np.flatnonzero(indices)[-self._encoder.max_length :]
        return _Window(indices[known], np.asarray(timestamps, dtype=np.int64)[known])

    def _encode(self, windows: Sequence["_Window"]) -> torch.Tensor:
        """The hidden states (B, dim) of histories of 1 to `max_length` events."""
        items = np.concatenate([window.items for window in windows])
        times = np.concatenate([window.timestamps for window in windows])
        with torch.inference_mode():
            return self._encoder.encode_rows(
                self._embed(items),
                torch.from_numpy(times // MICROSECONDS),
                [len(window.items) for window in windows],
            )

    def _embed(self, indices: np.ndarray) -> torch.Tensor:
        return self._encoder.matrix[torch.from_numpy(indices)]

    def _probes(self) -> Iterator[torch.Tensor]:
        """Hidden states to try an index with: of random histories, one event and more."""
        rng = np.random.default_rng(0)
        for number in range(PROBES):
            items = rng.integers(1, len(self.vocabulary) + 1, 1 + number % PROBE_LENGTH)
            with torch.inference_mode():
                yield self._encoder.encode(torch.from_numpy(items), torch.arange(len(items)))

    def p_interact(self, scores: np.ndarray) -> list[float | None]:
        """Calibrated P(interacted | served) of a slate's slots; None where there is no curve.

        Args:
            scores: (k,) in slot order.
        """
        if self._calibration is None:
            return [None] * len(scores)
        return self._calibration.p_interact(scores, np.arange(len(scores))).tolist()

    def warm_up(self) -> None:
        """Answer once for a short and a long history, so that the first request does not pay."""
        _ = self._lengths
        for length in (1, 200):
            some = [self.vocabulary.item_ids[i % len(self.vocabulary)] for i in range(length)]
            self.rank(some, list(range(length)))


class _Window(NamedTuple):
    """What the model sees of a history: the newest events of items that it knows.

    Attributes:
        items: (L,) int64 indices, none of them `PADDING`.
        timestamps: (L,) int64, microseconds since the epoch.
    """

    items: np.ndarray
    timestamps: np.ndarray


def _with_bonus(scores: np.ndarray, bonus: np.ndarray | None) -> np.ndarray:
    """(B, V + 1) scores, changed in place: the trend's bonus added, and no padding."""
    if bonus is not None:
        scores += bonus
    scores[:, PADDING] = -np.inf
    return scores


def _metadata(directory: Path) -> dict[str, Any]:
    """As the manifest of a version has it; a model that is no version yet has none."""
    manifest = directory / MANIFEST
    return json.loads(manifest.read_text())["metadata"] if manifest.exists() else {}
