"""The best items of a large catalogue without scoring all of it.

Embeddings are kept in 4 bits a dimension and scored by look-ups within registers (André et al.
2015, "Cache locality is not enough"; Douze et al. 2024, "The Faiss library", section 5.3): a
million items take a millisecond or two. The best of these are scored again with the true
embeddings, so every score that leaves is exact, and all that can go wrong is that an item is
missed. How many are missed is measured when a version is loaded; above a limit it is not used.
"""

import logging
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

RECALL_AT = 100
LEAST_RECALL = 0.99
OVERSAMPLING = 20  # items that are scored again for each one wanted
TRAINING_ROWS = 60_000


class Index:
    """Compressed item embeddings.

    Args:
        matrix: (V + 1, dim) float32 output embeddings; row 0 is padding and is never found.
    """

    def __init__(self, matrix: Tensor) -> None:
        # Here and not above: only workers with a large catalogue load it.
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        dim = matrix.shape[1]
        items = matrix[1:].numpy()
        some = np.random.default_rng(0).permutation(len(items))[:TRAINING_ROWS]
        self._faiss = faiss.index_factory(dim, f"PQ{dim}x4fs", faiss.METRIC_INNER_PRODUCT)
        self._faiss.train(items[some])
        self._faiss.add(items)

    def search(self, hidden: Tensor, n: int) -> np.ndarray:
        """(<= n,) int64 indices of about the best items, in no order that counts."""
        _, found = self._faiss.search(hidden[None].numpy(), min(n, self._faiss.ntotal))
        return found[0][found[0] >= 0] + 1


def accurate_index(matrix: Tensor, queries: Iterable[Tensor]) -> tuple[Index | None, float]:
    """An index and its recall@100 against exact search; None in its place if that is too low.

    Args:
        matrix: (V + 1, dim) float32.
        queries: hidden states (dim,).
    """
    index = Index(matrix)
    recall = float(np.mean([_recall(index, matrix, hidden) for hidden in queries]))
    if recall < LEAST_RECALL:
        logger.warning("index: recall@%d is %.3f; items are scored exactly", RECALL_AT, recall)
        return None, recall
    logger.info("index: recall@%d is %.4f", RECALL_AT, recall)
    return index, recall


def _recall(index: Index, matrix: Tensor, hidden: Tensor) -> float:
    exact = (matrix[1:] @ hidden).topk(min(RECALL_AT, len(matrix) - 1)).indices.numpy() + 1
    found = index.search(hidden, OVERSAMPLING * RECALL_AT)
    # Scoring again puts those of the best that were found before all others.
    return float(np.isin(exact, found).mean())
