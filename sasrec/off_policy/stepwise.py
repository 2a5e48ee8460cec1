"""Slates whose next slot depends on what stands above it, with the exact propensity of each slot.

The mixture is that of `sasrec.off_policy.policy`. What a list may still hold, and how it is ranked,
follow from the slots above, so each slot's distribution is computed when it is its turn: the
probability given the slots above is exact, whatever the rules do with these.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from sasrec.off_policy.policy import NO_ITEMS, Policy, Slate


class Limits(Protocol):
    """What may stand in a list beside what it has."""

    def take(self, item: int) -> np.ndarray | None:
        """(V + 1,) bool of what may not follow now that `item` is in the list; None for nothing."""
        ...


class Reranking(Protocol):
    """How candidates are ranked beside what a list has."""

    def take(self, item: int) -> np.ndarray:
        """(C,) finite scores of the candidates now that `item` is in the list."""
        ...


def draw_stepwise(
    candidates: np.ndarray,
    scores: np.ndarray,
    eligible: np.ndarray,
    k: int,
    policy: Policy,
    rng: np.random.Generator,
    new: np.ndarray = NO_ITEMS,
    *,
    placed: Mapping[int, int],
    limits: Limits | None = None,
    reranking: Reranking | None = None,
) -> Slate:
    """Draw up to `k` distinct items around those that a rule has placed.

    Fewer come when fewer may be shown; what was placed further down moves up then.

    Args:
        candidates, scores, eligible, new: as `draw_slate` has them.
        placed: slot -> item, eligible or not; drawn by nobody, so its propensity is 1. They count
            as in the list from the start.
        limits, reranking: told of every item that enters the list.
    """
    draw = _Draw(candidates, scores, eligible.copy(), policy, rng, new, limits, reranking)
    for item in placed.values():
        draw.take(item)
    waiting = sorted(placed.items())
    while len(draw.items) < k and (waiting or draw.left):
        if waiting and (waiting[0][0] <= len(draw.items) or not draw.left):
            draw.put(waiting.pop(0)[1])
        else:
            draw.draw()
    return draw.slate()


class _Draw:
    """A list while it is drawn.

    Attributes:
        items: so far.
        left: how many items may still be drawn.
    """

    def __init__(
        self,
        candidates: np.ndarray,
        scores: np.ndarray,
        eligible: np.ndarray,
        policy: Policy,
        rng: np.random.Generator,
        new: np.ndarray,
        limits: Limits | None,
        reranking: Reranking | None,
    ) -> None:
        self._candidates, self._scores, self._eligible = candidates, scores, eligible
        self._policy, self._rng, self._new = policy, rng, new
        self._limits, self._reranking = limits, reranking
        self.left = int(np.count_nonzero(eligible))
        self.items: list[int] = []
        self._propensities: list[float] = []
        self._explored: list[bool] = []
        self._introduced: list[bool] = []
        self._placed: list[bool] = []
        self._remaining: list[int] = []

    def take(self, item: int) -> None:
        """Let the rules know that an item is in the list."""
        self.left -= int(self._eligible[item])
        self._eligible[item] = False
        if self._limits is not None and (barred := self._limits.take(item)) is not None:
            self._eligible &= ~barred
            self.left = int(np.count_nonzero(self._eligible))
        if self._reranking is not None:
            self._scores = self._reranking.take(item)

    def put(self, item: int) -> None:
        """Fill the next slot with an item that was taken before."""
        self._append(item, 1.0, placed=True)

    def draw(self) -> None:
        """Fill the next slot by the policy."""
        policy = self._policy
        free = self._eligible[self._candidates]
        new = self._new[self._eligible[self._new]]
        ranked = self._ranked(free)
        new_share = policy.new_share if len(new) else 0.0
        part = self._rng.random()
        introduced = policy.epsilon <= part < policy.epsilon + new_share
        explored = part < policy.epsilon or not (introduced or free.any())
        if introduced:
            item = int(self._rng.choice(new))
        elif explored:
            item = int(self._rng.choice(np.flatnonzero(self._eligible)))
        else:
            item = int(self._candidates[self._rng.choice(len(ranked), p=ranked)])

        uniform = 1 / self.left
        propensity = new_share / len(new) if item in new else 0.0
        if free.any():
            chance = float(ranked[self._candidates == item].sum())
            propensity += (1 - policy.epsilon - new_share) * chance + policy.epsilon * uniform
        else:
            propensity += (1 - new_share) * uniform
        self._append(item, propensity, explored=explored, introduced=introduced)
        self.take(item)

    def _ranked(self, free: np.ndarray) -> np.ndarray:
        """(C,) float64: what the ranking's part gives each candidate; all 0 where none is free."""
        chance = np.zeros(len(self._candidates))
        if not free.any():
            return chance
        scores = self._scores[free].astype(np.float64)
        if self._policy.temperature == 0:
            weight = np.zeros(len(scores))
            weight[np.argmax(scores)] = 1.0  # ties go to the earlier candidate
        else:
            weight = np.exp((scores - scores.max()) / self._policy.temperature)
        chance[free] = weight / weight.sum()
        return chance

    def _append(
        self,
        item: int,
        propensity: float,
        *,
        explored: bool = False,
        introduced: bool = False,
        placed: bool = False,
    ) -> None:
        self.items.append(item)
        self._propensities.append(propensity)
        self._explored.append(explored)
        self._introduced.append(introduced)
        self._placed.append(placed)
        self._remaining.append(self.left)

    def slate(self) -> Slate:
        """What was drawn."""
        return Slate(
            np.array(self.items, dtype=np.int64),
            np.array(self._propensities, dtype=np.float64),
            np.array(self._explored, dtype=bool),
            np.array(self._introduced, dtype=bool),
            np.array(self._placed, dtype=bool),
            np.array(self._remaining, dtype=np.int64),
        )
