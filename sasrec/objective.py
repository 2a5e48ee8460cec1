"""The configured loss of one step."""

import torch
from torch import Tensor

from sasrec import losses
from sasrec.batches import Batch
from sasrec.config import TrainConfig
from sasrec.negatives import NegativeSampler


class Objective:
    """Draws the step's negatives and gives the loss of each of its events.

    Args:
        counts: (V + 1,) int64, training events of each item.
        cold_items_compete: whether items without a training event are negatives of the full
            cross-entropy. With item features they are not: whether anyone would want them is not
            known, and their features are not to blame.
    """

    def __init__(self, config: TrainConfig, counts: Tensor, *, cold_items_compete: bool) -> None:
        self.config = config
        self.candidates = None
        if not cold_items_compete:
            self.candidates = (counts > 0).nonzero().flatten()
            self.position = torch.cumsum(counts > 0, 0) - 1
        self.num_items = len(counts) - 1
        self.sampler = NegativeSampler(config.sampling, counts)

    def draw(self, batch: Batch) -> Tensor | None:
        """Negatives, (n,) shared or (T, n) of each event, from torch's global generator."""
        if self.config.loss == "cross_entropy":
            return None
        shape: tuple[int, ...] = (self.config.negatives,)
        if not self.config.shared_negatives:
            shape = (len(batch.targets), *shape)
        return self.sampler.draw(shape, batch.step_targets)

    def losses(
        self, hidden: Tensor, item_matrix: Tensor, targets: Tensor, negatives: Tensor | None
    ) -> Tensor:
        """(T,) float32, from hidden states (T, dim) and targets (T,)."""
        if negatives is None:
            if self.candidates is None:
                return losses.cross_entropy(hidden, item_matrix[1:], targets - 1)
            candidates, position = (t.to(hidden.device) for t in (self.candidates, self.position))
            return losses.cross_entropy(hidden, item_matrix[candidates], position[targets])
        if self.config.loss == "sampled_softmax":
            log_q = self.sampler.log_probability.to(hidden.device)
            return losses.sampled_softmax(hidden, item_matrix, targets, negatives, log_q)
        positive, negative = losses.candidate_scores(hidden, item_matrix, targets, negatives)
        if self.config.loss == "bpr":
            return losses.bpr(positive, negative)
        if self.config.loss == "bce":
            return losses.bce(positive, negative)
        return losses.gbce(
            positive,
            negative,
            num_items=self.num_items,
            calibration=self.config.gbce_calibration,
        )
