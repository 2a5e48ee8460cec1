"""Negative items: uniform, by popularity, or from the batch; an event's own are unseen ones."""

import numpy as np
import torch
from torch import Tensor

from sasrec.data.packed import PackedSequences

# A draw that hits a seen item is repeated; a user who has seen a tenth of all items keeps one in
# 100,000 after these.
REDRAWS = 4


class SeenItems:
    """What each history holds.

    Args:
        histories: every event of them; the newest window of a model alone is not all.
        num_items: V.
    """

    def __init__(self, histories: PackedSequences, num_items: int) -> None:
        self.histories = histories
        self.stride = num_items + 1

    def of(self, rows: Tensor) -> Tensor:
        """Sorted (K,) int64, a key for each event of the histories among `rows` (T,).

        Only these are read: the others may be in a file.
        """
        distinct = rows.unique().numpy()
        chosen = self.histories.select(distinct)
        keys = np.repeat(distinct, chosen.lengths) * self.stride + chosen.items
        return torch.from_numpy(np.sort(keys))

    def hold(self, held: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        """Whether history `rows[t]` (T,) holds each of `items[t]` (T, n): (T, n) bool.

        Args:
            held: `of` these rows.
        """
        keys = rows[:, None] * self.stride + items
        index = torch.searchsorted(held, keys).clamp_max(len(held) - 1)
        return held[index] == keys


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

    def draw_unseen(self, n: int, seen: SeenItems, rows: Tensor, step_targets: Tensor) -> Tensor:
        """(T, n) int64, for each event items that its user has not met.

        Kang & McAuley 2018, section III-E: negatives are not in the user's sequence. With few
        items left to a user, one that was seen may remain.

        Args:
            rows: (T,) int64, the history of each event within `seen`.
        """
        negatives = self.draw((len(rows), n), step_targets)
        held = seen.of(rows)
        event, which = seen.hold(held, rows, negatives).nonzero(as_tuple=True)
        for _ in range(REDRAWS):
            negatives[event, which] = self.draw((len(event),), step_targets)
            seen_before = seen.hold(held, rows[event], negatives[event, which, None]).flatten()
            event, which = event[seen_before], which[seen_before]
        return negatives
