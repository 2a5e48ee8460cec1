"""One loaded model version: scores the whole catalogue for one history."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sasrec.calibration import FILE as CALIBRATION
from sasrec.calibration import Calibration
from sasrec.data.vocabulary import PADDING
from sasrec.recommender import MICROSECONDS, Recommender
from serving.encoder import Encoder
from serving.items import load_items


class Engine:
    """A version in memory, ready to answer. Immutable, so requests may share it.

    Args:
        directory: a registered version.
    """

    def __init__(self, directory: Path) -> None:
        self.version = Path(directory).name
        self.recommender = Recommender.load(Path(directory))
        self.vocabulary = self.recommender.vocabulary
        self._encoder = Encoder(self.recommender.model)
        self.items = load_items(directory, self.vocabulary)
        calibrated = (Path(directory) / CALIBRATION).exists()
        self._calibration = Calibration.load(Path(directory)) if calibrated else None

    def describe(self, index: int) -> dict[str, str | None]:
        """Id, title and category of an item."""
        return {
            "item_id": self.vocabulary.item_ids[index - 1],
            "title": self.items.titles[index],
            "category": self.items.categories[index] or None,
        }

    def title(self, item_id: str) -> str:
        """The title of an item; the id itself where there is none."""
        [index] = self.vocabulary.encode([item_id])
        return item_id if index == PADDING else self.items.titles[index]

    def knows_any(self, item_ids: Sequence[str]) -> bool:
        """Whether at least one of the items is in the vocabulary."""
        return any(item_id in self.vocabulary for item_id in item_ids)

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

    def scores(self, item_ids: Sequence[str], timestamps: Sequence[int]) -> np.ndarray:
        """(V + 1,) float32 scores of the next item; -inf for padding, 0 without a known item.

        Args:
            item_ids: the history, oldest first, unknown items included.
            timestamps: microseconds since the epoch, one per item.
        """
        indices = self.vocabulary.encode(item_ids)
        known = indices != PADDING
        if not known.any():
            scores = np.zeros(len(self.vocabulary) + 1, dtype=np.float32)
        else:
            seconds = np.asarray(timestamps, dtype=np.int64)[known] // MICROSECONDS
            with torch.inference_mode():
                hidden = self._encoder.encode(
                    torch.from_numpy(indices[known]), torch.from_numpy(seconds)
                )
                scores = (self._encoder.matrix @ hidden).numpy()
        scores[PADDING] = -np.inf
        return scores

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
            self.scores(some, list(range(length)))


def top_candidates(scores: np.ndarray, eligible: np.ndarray, n: int) -> np.ndarray:
    """Indices (<= n,) int64 of the best eligible items, best first; ties go to the lower index."""
    masked = np.where(eligible, scores, -np.inf)
    n = min(n, int(np.count_nonzero(masked > -np.inf)))
    if n == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(masked, -n)[-n]
    better = np.flatnonzero(masked > threshold)
    tied = np.flatnonzero(masked == threshold)[: n - len(better)]
    return np.concatenate([better[np.lexsort((better, -masked[better]))], tied])
