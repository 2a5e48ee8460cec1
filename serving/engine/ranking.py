"""What a model, or popularity, thinks of the catalogue for one history."""

from typing import Protocol

import numpy as np
import torch
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


class BoundedRanking:
    """All items scored about right, and again exactly where that could change the list.

    Args:
        approximate: (V + 1,) float32 scores, each off by at most `bound`; -inf is never shown.
        bound: > 0.
        hidden: (dim,) of the newest event.
        matrix: (V + 1, dim) output embeddings.
        bonus: (V + 1,) that `approximate` has over the products of the two; None for nothing.
    """

    def __init__(
        self,
        approximate: np.ndarray,
        bound: float,
        hidden: Tensor,
        matrix: Tensor,
        bonus: np.ndarray | None,
    ) -> None:
        self._approximate, self._bound = approximate, bound
        self._exact = _Products(hidden, matrix, bonus)

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it.

        The n-th best of the approximate scores is at most one bound above the true one, and no item
        of the true list is more than one bound below its own: none is missed within two.
        """
        found = candidates(self._approximate, eligible, n, slack=2 * self._bound)
        return found[np.lexsort((found, -self.scores(found)))[:n]]

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        return self._exact(items)


class _Products:
    """Exact scores of some items: (n,) int64 to (n,) float32."""

    def __init__(self, hidden: Tensor, matrix: Tensor, bonus: np.ndarray | None) -> None:
        self._hidden, self._matrix, self._bonus = hidden.numpy(), matrix.numpy(), bonus

    def __call__(self, items: np.ndarray) -> np.ndarray:
        # Row by row: BLAS would round the same item otherwise, depending on where it stands.
        scores = np.einsum("ij,j->i", self._matrix[items], self._hidden)
        return scores if self._bonus is None else scores + self._bonus[items]


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
        self._exact = _Products(hidden, matrix, self._bonus)
        self._trending = None if now is None or now.bonus is None else now.trending

    def best(self, eligible: np.ndarray, n: int) -> np.ndarray:
        """As `Ranking` has it, but for the few items that the index misses."""
        found = self._index.search(self._hidden, OVERSAMPLING * max(n, RECALL_AT))
        if self._trending is not None:
            # Not a union, which would sort all of them: few of them are best, whether twice or not.
            found = np.concatenate([found, self._trending])
        found = found[eligible[found]]
        if len(found) < LEAST_LEFT * n:
            left = np.flatnonzero(eligible)
            if len(left) < len(eligible) * FEW:
                return left[top_candidates(self.scores(left), np.ones(len(left), dtype=bool), n)]
            scores = score(self._matrix, self._hidden)
            return top_candidates(
                scores if self._bonus is None else scores + self._bonus, eligible, n
            )
        scores = self.scores(found)
        if len(found) > 2 * n:
            best = scores >= np.partition(scores, -2 * n)[-2 * n]
            found, scores = found[best], scores[best]
        found = found[np.lexsort((found, -scores))]
        repeated = found[1:] == found[:-1]
        return found[np.concatenate([[True], ~repeated])][:n]

    def scores(self, items: np.ndarray) -> np.ndarray:
        """As `Ranking` has it."""
        return self._exact(items)


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


def score_batch(matrix: Tensor, hidden: Tensor) -> np.ndarray:
    """(B, V + 1) float32 products of all items with (B, dim) `hidden`.

    Of eight histories each costs a third of what one alone does: the matrix is read once.
    """
    if len(hidden) == 1:
        return score(matrix, hidden[0])[None]
    with torch.inference_mode():
        return (hidden @ matrix.T).numpy()


SAMPLE_EVERY = 32
"""Of the scores, how many stand behind each one that is looked at for a threshold."""


def top_candidates(scores: np.ndarray, eligible: np.ndarray, n: int) -> np.ndarray:
    """Indices (<= n,) int64 of the best eligible items, best first; ties go to the lower index."""
    found = candidates(scores, eligible, n)
    return found[np.lexsort((found, -scores[found]))[:n]]


def candidates(scores: np.ndarray, eligible: np.ndarray, n: int, slack: float = 0.0) -> np.ndarray:
    """Indices int64, in their order, of the eligible items down to `slack` below the n-th best."""
    found = _above_threshold(scores, eligible, n, slack)
    if found is None:
        found = np.flatnonzero(eligible & (scores > -np.inf))
    if len(found) > n > 0:
        of_these = scores[found]
        found = found[of_these >= np.partition(of_these, -n)[-n] - slack]
    return found


def _above_threshold(
    scores: np.ndarray, eligible: np.ndarray, n: int, slack: float
) -> np.ndarray | None:
    """All eligible items from some score on, n of them and `slack`; None where that failed.

    The score is that of a sample at which twice as many items are expected, so a pass or two over
    the scores finds what a partition of all takes ten times as long for.
    """
    sample = scores[::SAMPLE_EVERY]
    rank = 2 * n // SAMPLE_EVERY + 4
    if rank >= len(sample) // 2:
        return None
    threshold = np.partition(sample, -rank)[-rank]
    if threshold == -np.inf:
        return None
    found = np.flatnonzero(scores >= threshold)
    found = found[eligible[found]]
    if np.count_nonzero(scores[found] >= threshold + slack) < n:
        return None
    return found
