"""Negative items: uniform, by popularity, or from the batch."""

import torch
from torch import Tensor


class NegativeSampler:
    """Draws item indices from a fixed proposal distribution q over 1..V.

    Args:
        sampling: "uniform", "popularity" (q proportional to training counts, plus one so that
            every item can be drawn), or "in_batch" (the step's own targets).
        counts: (V + 1,) int64, training events of each item; entry 0 is padding.
    """

    def __init__(self, sampling: str, counts: Tensor) -> None:
        self.sampling = sampling
        weights = torch.ones_like(counts, dtype=torch.float64)
        if sampling != "uniform":
            weights = counts.double() + (sampling == "popularity")
        weights[0] = 0
        self.cumulative = weights.cumsum(0)
        probability = weights / weights.sum()
        self.log_probability = probability.clamp_min(torch.finfo(torch.float64).tiny).log().float()

    def draw(self, shape: tuple[int, ...], step_targets: Tensor) -> Tensor:
        """Item indices of this shape, int64, with replacement, from torch's global generator.

        Args:
            step_targets: (tokens,) int64, what "in_batch" draws from.
        """
        if self.sampling == "in_batch":
            return step_targets[torch.randint(len(step_targets), shape)]
        if self.sampling == "uniform":
            return torch.randint(1, len(self.cumulative), shape)
        uniform = torch.rand(shape, dtype=torch.float64) * self.cumulative[-1]
        # `right` skips runs of zero weight; rounding may reach the total itself.
        index = torch.searchsorted(self.cumulative, uniform, right=True)
        return index.clamp_max(len(self.cumulative) - 1)
