"""What a model, or popularity, thinks of the catalogue for one history."""

from typing import Protocol

import numpy as np
from torch import Tensor

from serving.engine.index import OVERSAMPLING, RECALL_AT, Index
from serving.engine.live_trend import Now

# Of the items wanted, how many times as many the filters must leave of what an index found.
LEAST_LEFT = 5
# Share of all items below which it costs less to gather rows than to score all.
FEW = 0.1


class Ranking(Protocol):
    """Scores of items, higher is better."""

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """Indices (<= n,) int64 of the best eligible items, best first; ties by lower index.

        Args:
            eligible: (V + 1,) bool.
        """
        ...

    def scores(self, items: np.ndarray) -> np.ndarray:
        """(len(items),) float32."""
        ...


class ExactRanking:
    """All items scored.

    Args:
        scores: (V + 1,) float32; -inf is never shown.
    """

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it."""
        return top_candidates(self._scores, eligible, n)

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        return self._scores[items]


class IndexRanking:
    """Only what an index found is scored; everything, where a filter leaves too little of that.

    Args:
        hidden: (dim,) of the newest event.
        matrix: (V + 1, dim) output embeddings; the index is of these.
        now: what recent counts add; None for nothing. The index knows the model alone, so the items
            that trend the most are scored beside what it finds.
    """

    def __init__(
        self, hidden: Tensor, matrix: Tensor, index: Index, now: Now | None = None
    ) -> None:
        self._hidden = hidden
        self._matrix = matrix
        self._index = index
        self._bonus = None if now is None else now.bonus
        self._trending = None if now is None or now.bonus is None else now.trending

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it, but for the few items that the index misses."""
        found = self._index.search(self._hidden, OVERSAMPLING * max(n, RECALL_AT))
        if self._trending is not None:
            found = np.union1d(found, self._trending)
        found = found[eligible[found]]
        if len(found) < LEAST_LEFT * n:
            left = np.flatnonzero(eligible)
            if len(left) < len(eligible) * FEW:
                return left[top_candidates(self.scores(left), np.ones(len(left), dtype=bool), n)]
            scores = score(self._matrix, self._hidden)
            return top_candidates(
                scores if self._bonus is None else scores + self._bonus, eligible, n
            )
        return found[np.lexsort((found, -self.scores(found)))[:n]]

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        scores = self._matrix.numpy()[items] @ self._hidden.numpy()
        return scores if self._bonus is None else scores + self._bonus[items]


class BoostedRanking:
    """Another ranking with something added to the scores of some items.

    Args:
        ranking: of the model, or of recent counts.
        added: (V + 1,) float32, 0 where nothing is.
        counts: whether the scores are counts: those are taken as log(1 + count), so that a boost
            means alike of both.
    """

    def __init__(self, ranking: Ranking, added: np.ndarray, *, counts: bool) -> None:
        self._ranking, self._added, self._counts = ranking, added, counts

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it."""
        plain = self._added == 0
        boosted = np.flatnonzero(eligible & ~plain)
        found = np.sort(np.concatenate([self._ranking.best(eligible & plain, n), boosted]))
        return found[top_candidates(self.scores(found), np.ones(len(found), dtype=bool), n)]

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        scores = self._ranking.scores(items)
        return (np.log1p(scores) if self._counts else scores) + self._added[items]


def score(matrix: Tensor, hidden: Tensor) -> np.ndarray:
    """(V + 1,) float32 products of all items with (dim,) `hidden`.

    By numpy: its product of a matrix and a vector takes 0.5 ms for 100,000 items, torch's 1.4 ms.
    """
    return matrix.numpy() @ hidden.numpy()


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
