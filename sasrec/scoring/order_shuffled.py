"""Does a model use the order of events? The same model, asked with every history shuffled."""

import numpy as np
import torch

from sasrec.data.packed import PackedSequences
from sasrec.scoring.ranking import history_keys, tie_order
from sasrec.scoring.scorer import Scorer


class OrderShuffled:
    """`scorer` asked about each history with its items in another order, times as they were.

    The order is a hash of the history, so it is the same on every run and for every block of users.
    """

    def __init__(self, scorer: Scorer) -> None:
        self.name = f"{scorer.name}, order shuffled"
        self._scorer = scorer

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32."""
        owner = np.repeat(np.arange(len(histories)), histories.lengths)
        place = torch.from_numpy(np.arange(len(owner)) - histories.cu_seqlens[owner])
        noise = tie_order(history_keys(histories)[torch.from_numpy(owner)], place)
        order = np.lexsort((noise.numpy(), owner))
        return self._scorer.logits(
            PackedSequences(
                histories.items[order],
                histories.cu_seqlens,
                histories.timestamps,
                asked_at=histories.asked_at,
            )
        )
