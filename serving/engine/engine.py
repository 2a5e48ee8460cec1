"""One loaded model version: ranks the catalogue for one history."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from sasrec.data.roles import Roles
from sasrec.data.vocabulary import PADDING
from sasrec.model.encoder import Encoder
from sasrec.model.recommender import MICROSECONDS, Recommender
from sasrec.off_policy.calibration import FILE as CALIBRATION
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.policy import NO_ITEMS
from serving.engine.index import accurate_index
from serving.engine.items import load_items
from serving.engine.ranking import ExactRanking, IndexRanking, Ranking, score
from serving.registry.store import MANIFEST

PROBES, PROBE_LENGTH = 64, 20


class Engine:
    """A version in memory, ready to answer. Immutable, so requests may share it.

    Args:
        directory: a registered version.
        index_above: items above which an index is tried; none is by default.

    Attributes:
        roles: of event types, as the model was trained with them.
        index_recall: recall@100 of the index; None without one.
    """

    def __init__(self, directory: Path, *, index_above: int | None = None) -> None:
        self.version = Path(directory).name
        self.recommender = Recommender.load(Path(directory))
        self.vocabulary = self.recommender.vocabulary
        self._encoder = Encoder(self.recommender.model)
        self.roles = _event_roles(Path(directory))
        self.items = load_items(directory, self.vocabulary)
        calibrated = (Path(directory) / CALIBRATION).exists()
        self._calibration = Calibration.load(Path(directory)) if calibrated else None
        self._index, self.index_recall = None, None
        if index_above is not None and len(self.vocabulary) > index_above:
            self._index, recall = accurate_index(self._encoder.matrix, self._probes())
            self.index_recall = recall if self._index else None

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

    def rank(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> Ranking | None:
        """The catalogue by score of the next item; None without a known item.

        Args:
            item_ids: the history, oldest first, unknown items included.
            timestamps: microseconds since the epoch, one per item.
        """
        hidden = self._encode(item_ids, timestamps)
        if hidden is None:
            return None
        return self._ranking(hidden)

    def new_items(self, eligible: np.ndarray) -> np.ndarray:
        """Indices (N,) int64 of the eligible items to show on purpose: none in a version alone."""
        return NO_ITEMS

    def scores(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> np.ndarray:
        """(V + 1,) float32 scores of the next item; -inf for padding, 0 without a known item.

        Args:
            item_ids: the history, oldest first, unknown items included.
            timestamps: microseconds since the epoch, one per item.
        """
        hidden = self._encode(item_ids, timestamps)
        if hidden is None:
            scores = np.zeros(len(self.vocabulary) + 1, dtype=np.float32)
            scores[PADDING] = -np.inf
            return scores
        return self._score_all(hidden)

    def _encode(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> torch.Tensor | None:
        indices = self.vocabulary.encode(item_ids)
        known = indices != PADDING
        if not known.any():
            return None
        seconds = np.asarray(timestamps, dtype=np.int64)[known] // MICROSECONDS
        with torch.inference_mode():
            rows = self._embed(indices[known])
            return self._encoder.encode_rows(rows, torch.from_numpy(seconds))

    def _embed(self, indices: np.ndarray) -> torch.Tensor:
        return self._encoder.matrix[torch.from_numpy(indices)]

    def _ranking(self, hidden: torch.Tensor) -> Ranking:
        if self._index is not None:
            return IndexRanking(hidden, self._encoder.matrix, self._index)
        return ExactRanking(self._score_all(hidden))

    def _score_all(self, hidden: torch.Tensor) -> np.ndarray:
        scores = score(self._encoder.matrix, hidden)
        scores[PADDING] = -np.inf
        return scores

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
        for length in (1, 200):
            some = [self.vocabulary.item_ids[i % len(self.vocabulary)] for i in range(length)]
            self.rank(some, list(range(length)))


def _event_roles(directory: Path) -> Roles:
    """As the manifest of a version has them; a model that is no version yet has none."""
    manifest = directory / MANIFEST
    if not manifest.exists():
        return Roles.parse({})
    return Roles.parse(json.loads(manifest.read_text())["metadata"].get("event_roles", {}))
