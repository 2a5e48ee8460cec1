"""The configured loss of one step."""

import torch
from torch import Tensor

from sasrec.training import losses
from sasrec.training.batches import Batch
from sasrec.training.config import TrainConfig
from sasrec.training.negatives import NegativeSampler, SeenItems


class Objective:
    """Draws the step's negatives and gives the loss of each of its events.

    Args:
        counts: (V + 1,) int64, training events of each item.
        cold_items_compete: whether items without a training event are negatives of the full
            cross-entropy. With item features they are not: whether anyone would want them is not
            known, and their features are not to blame.
        device: of the model; negatives are drawn on the CPU.
        seen: of the training histories; needed where each event has negatives of its own.
    """

    def __init__(
        self,
        config: TrainConfig,
        counts: Tensor,
        *,
        cold_items_compete: bool,
        device: torch.device,
        seen: SeenItems | None = None,
    ) -> None:
        self.config, self.seen = config, seen
        self.candidates = None
        if not cold_items_compete:
            self.candidates = (counts > 0).nonzero().flatten().to(device)
            self.position = (torch.cumsum(counts > 0, 0) - 1).to(device)
        self.num_items = len(counts) - 1
        self.sampler = NegativeSampler(config.sampling, counts)
        self.log_q = self.sampler.log_probability.to(device)

    def draw(self, batch: Batch) -> Tensor | None:
        """Negatives, (n,) shared or (T, n) of each event, from torch's global generator."""
        if self.config.loss == "cross_entropy":
            return None
        count = self.config.negatives
        if self.config.shared_negatives:
            return self.sampler.draw((count,), batch.step_targets)
        assert self.seen is not None
        rows = batch.histories.repeat_interleave(batch.cu_seqlens.diff())
        return self.sampler.draw_unseen(count, self.seen, rows, batch.step_targets)

    def negatives_buffer(self, tokens: int, device: torch.device) -> Tensor | None:
        """Room for what `draw` gives for as many tokens, filled with item 1."""
        if self.config.loss == "cross_entropy":
            return None
        count = self.config.negatives
        shape = (count,) if self.config.shared_negatives else (tokens, count)
        return torch.ones(shape, dtype=torch.int64, device=device)

    def losses(
        self,
        hidden: Tensor,
        item_matrix: Tensor,
        targets: Tensor,
        negatives: Tensor | None,
        named_items: Tensor | None = None,
    ) -> Tensor:
        """(T,) float32, from hidden states (T, dim) and targets (T,).

        Args:
            named_items: (U,) the items whose rows `item_matrix` holds, if it does not hold all.
        """
        if negatives is None:
            if self.candidates is None:
                return losses.cross_entropy(hidden, item_matrix[1:], targets - 1)
            return losses.cross_entropy(
                hidden, item_matrix[self.candidates], self.position[targets]
            )
        if self.config.loss == "sampled_softmax":
            log_q = self.log_q if named_items is None else self.log_q[named_items]
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
