"""A scorer that knows another vocabulary, such as the champion of last week, scoring this one's."""

import numpy as np
import torch

from sasrec.data.packed import PackedSequences
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.scoring.scorer import Scorer


class VocabularyAdapter:
    """`scorer` asked and answering in another vocabulary.

    Events with items it does not know are left out of its histories; items it does not know are
    scored -inf, since it can never recommend them.

    Args:
        scorer: scores `theirs`.
        theirs: the vocabulary `scorer` was trained on.
        ours: the vocabulary of the histories and of the answers.
    """

    def __init__(self, scorer: Scorer, theirs: Vocabulary, ours: Vocabulary) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._index = np.concatenate([[PADDING], theirs.encode(ours.item_ids)])

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        """(B, V + 1) float32 over our vocabulary."""
        items = self._index[histories.items]
        known = items != PADDING
        before = np.concatenate([[0], np.cumsum(known)])
        translated = PackedSequences(
            items[known],
            before[histories.cu_seqlens].astype(np.int32),
            histories.timestamps[known],
            asked_at=histories.asked_at,
        )
        # Column PADDING is -inf, which is what an item unknown to the scorer gets.
        return self._scorer.logits(translated)[:, self._index]
