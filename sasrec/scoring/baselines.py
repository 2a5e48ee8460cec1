"""What a model has to beat: popularity, recent popularity, bigram Markov and item-kNN scorers.

Each is fitted once on training histories and implements `sasrec.scoring.scorer.Scorer`.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy import sparse

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING
from sasrec.errors import DataError

DAY = 86_400_000_000  # microseconds
BLOCK_SIMILARITIES = 2**24  # of pairs of items, held at a time


class Popularity:
    """Scores every item by its number of training events, whoever asks.

    Args:
        train: histories to count.
        num_items: size V of the vocabulary.
    """

    name = "popularity"

    def __init__(self, train: PackedSequences, num_items: int) -> None:
        self._scores = _as_scores(train.counts(num_items))

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32."""
        return self._scores.expand(len(histories), -1)


class RecentPopularity:
    """Popularity over the last `days` before the newest training event.

    Items without a recent event follow in the order of their all-time popularity.

    Raises:
        DataError: the training histories are empty.
    """

    name = "recent popularity"

    def __init__(self, train: PackedSequences, num_items: int, days: float = 7) -> None:
        if not len(train.items):
            raise DataError("recent popularity: the training histories hold no event")
        recent = train.timestamps > train.timestamps.max() - days * DAY
        counts = np.bincount(train.items[recent], minlength=num_items + 1)
        self._scores = _as_scores(counts + _tie_breaking_popularity(train, num_items))

    @classmethod
    def as_of(
        cls,
        moment: int,
        events: Iterable[tuple[np.ndarray, np.ndarray]],
        train: PackedSequences,
        num_items: int,
        days: float = 7,
    ) -> "RecentPopularity":
        """Of what happened in the last `days` before `moment` (microseconds), trained on or not.

        Args:
            events: (items, times) of all users, in parts and any order.
        """
        counts = np.zeros(num_items + 1)
        for items, times in events:
            recent = (times < moment) & (times >= moment - days * DAY)
            counts += np.bincount(items[recent], minlength=num_items + 1)
        baseline = cls(train, num_items, days)
        baseline._scores = _as_scores(counts + _tie_breaking_popularity(train, num_items))
        return baseline

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32."""
        return self._scores.expand(len(histories), -1)


class BigramMarkov:
    """First-order Markov chain: P(next | last item), backing off to popularity.

    P(j | i) = (n(i → j) + κ · P(j)) / (n(i) + κ): Dirichlet smoothing (MacKay and Peto, 1995).
    The score is log P. An empty history is scored by P(j).

    Args:
        smoothing: κ, in events.
    """

    name = "bigram Markov"

    def __init__(self, train: PackedSequences, num_items: int, smoothing: float = 10.0) -> None:
        self._transitions = sparse.csr_matrix((num_items + 1, num_items + 1), dtype=np.float32)
        for part in train.parts():
            pairs = _adjacent_pairs(part)
            ones = np.ones(len(pairs[0]), dtype=np.float32)
            self._transitions += sparse.csr_matrix((ones, pairs), self._transitions.shape)
        self._smoothing = smoothing
        counts = train.counts(num_items).astype(np.float32)
        self._prior = counts / max(counts.sum(), 1)

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32."""
        transitions = self._transitions[_last_items(histories)]
        seen = np.asarray(transitions.sum(axis=1))
        mixed = transitions.toarray() + self._smoothing * self._prior
        with np.errstate(divide="ignore"):
            return _as_scores(np.log(mixed / (seen + self._smoothing), dtype=np.float32))


class ItemKNN:
    """Item-based nearest neighbours over the recent session.

    Cosine similarity of the users who touched both items, shrunk and cut to the nearest
    neighbours (Sarwar et al., 2001); the newest `session` events vote with weights that halve at
    every step back (the decay of sequence-aware kNN: Ludewig and Jannach, 2018).

    Args:
        neighbours: how many neighbours of an item may be recommended because of it.
        shrinkage: added to the denominator, in users; distrusts similarities seen on few.
        session: how many of the newest events vote.
    """

    name = "item-kNN"

    def __init__(
        self,
        train: PackedSequences,
        num_items: int,
        neighbours: int = 100,
        shrinkage: float = 10.0,
        session: int = 10,
    ) -> None:
        # A row of `users` per user; the items of a history are its columns, repeated or not.
        ones = np.ones(len(train.items), dtype=np.float32)
        users = sparse.csr_matrix(
            (ones, train.items, train.cu_seqlens), (len(train), num_items + 1), copy=True
        )
        users.sum_duplicates()
        users.data[:] = 1
        self._similarity = _nearest(users, neighbours, shrinkage)
        self._popularity = _tie_breaking_popularity(train, num_items)
        self._session = session

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32."""
        recent = histories.select(np.arange(len(histories)), max_length=self._session)
        owner = np.repeat(np.arange(len(recent)), recent.lengths)
        steps_back = recent.cu_seqlens[owner + 1] - 1 - np.arange(len(owner))
        votes = sparse.csr_matrix(
            (0.5 ** steps_back.astype(np.float32), (owner, recent.items)),
            shape=(len(recent), self._similarity.shape[0]),
        )
        # Popularity, below every similarity, orders the items that no neighbour points at.
        return _as_scores((votes @ self._similarity).toarray() + 1e-6 * self._popularity)


ALL = (Popularity, RecentPopularity, BigramMarkov, ItemKNN)


def _adjacent_pairs(histories: PackedSequences) -> tuple[np.ndarray, np.ndarray]:
    owner = np.repeat(np.arange(len(histories)), histories.lengths)
    same_user = owner[1:] == owner[:-1]
    return histories.items[:-1][same_user], histories.items[1:][same_user]


def _last_items(histories: PackedSequences) -> np.ndarray:
    """(B,) the newest item of each history, `PADDING` where it is empty."""
    last = np.full(len(histories), PADDING)
    filled = histories.lengths > 0
    last[filled] = histories.items[histories.cu_seqlens[1:][filled] - 1]
    return last


def _tie_breaking_popularity(train: PackedSequences, num_items: int) -> np.ndarray:
    """All-time popularity scaled into [0, 1): it orders what a count of events leaves equal."""
    counts = train.counts(num_items)
    return counts / (counts.max(initial=0) + 1)


def _nearest(users: sparse.csr_matrix, neighbours: int, shrinkage: float) -> sparse.csr_matrix:
    """Cosine similarities (V + 1, V + 1), of each item to its nearest alone, block by block.

    Args:
        users: (B, V + 1), one where a user touched an item.
    """
    popularity = np.asarray(users.sum(axis=0)).ravel()
    items = users.T.tocsr()
    blocks = []
    size = max(1, BLOCK_SIMILARITIES // items.shape[0])
    for start in range(0, items.shape[0], size):
        together = (items[start : start + size] @ users).tocoo()
        item = together.row + start
        scale = np.sqrt(popularity[item] * popularity[together.col]) + shrinkage
        distinct = item != together.col
        similarity = sparse.csr_matrix(
            (
                (together.data / scale)[distinct],
                (together.row[distinct], together.col[distinct]),
            ),
            shape=together.shape,
        )
        blocks.append(_keep_largest(similarity, neighbours))
    return sparse.vstack(blocks, format="csr")


def _keep_largest(matrix: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((-matrix.data, row))
    place = np.arange(len(row)) - matrix.indptr[row]
    kept = order[place < count]
    return sparse.csr_matrix(
        (matrix.data[kept], (row[kept], matrix.indices[kept])), shape=matrix.shape
    )


def _as_scores(values: np.ndarray) -> torch.Tensor:
    scores = torch.as_tensor(values, dtype=torch.float32).clone()
    scores[..., PADDING] = -torch.inf
    return scores
