"""Other ways to fill the same lists, for the same visitors at the same moment."""

from pathlib import Path

import numpy as np

from benchmarks.feedback_loop.truth import best_items
from sasrec.data.packed import PackedSequences
from sasrec.data.simulated import Storefront
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter

POPULARITY = "popularity"
NO_RETRAINING = "no retraining"
BEST = "the simulator's best"


class References:
    """Popularity, the first model for ever, and whoever knows the truth.

    None of them explores, and none knows of an item that is not launched.

    Args:
        first: the folder of the first version.
    """

    def __init__(self, storefront: Storefront, first: Path) -> None:
        model = Recommender.load(first)
        self._shop = storefront
        ours = Vocabulary(storefront.item_ids)
        self._first = VocabularyAdapter(model, model.vocabulary, ours)

    def popularity(self, users: np.ndarray) -> np.ndarray:
        """(n, I) how often everybody met each item until now."""
        counts = np.bincount(self._shop.events().item, minlength=len(self._shop.item_ids))
        return np.broadcast_to(counts.astype(float), (len(users), len(counts)))

    def lists(
        self, users: np.ndarray, eligible: np.ndarray, truth: np.ndarray
    ) -> dict[str, np.ndarray]:
        """(n, 10) item numbers each.

        Args:
            users: (n,) numbers.
            eligible: (n, I) bool.
            truth: (n, I) P(interacted | served in slot 0).
        """
        scores = {
            POPULARITY: self.popularity(users),
            NO_RETRAINING: self._scores_of_first(users),
            BEST: truth,
        }
        return {name: best_items(of, eligible) for name, of in scores.items()}

    def _scores_of_first(self, users: np.ndarray) -> np.ndarray:
        """(n, I); popularity for who has no history, as the service has it."""
        events = self._shop.events()
        counts = np.bincount(events.user, minlength=len(self._shop.user_ids))
        cu_seqlens = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        histories = PackedSequences(events.item + 1, cu_seqlens, events.time).select(users)
        scores = self._first.logits(histories).detach().numpy()[:, 1:].astype(float)
        new = histories.lengths == 0
        scores[new] = self.popularity(users)[new]
        return scores
