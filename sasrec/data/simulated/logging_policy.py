"""The policy that filled the storefront's log: popular things first, with a little exploration."""

from dataclasses import dataclass

import numpy as np

from sasrec.data.simulated.crowd import Crowd

SLOTS = 10
_EPSILON = 0.1
_CATEGORY_BONUS = 1.0  # for the category of the user's newest item
_POPULARITY_MEMORY = 0.9  # what is left of a day's counts a day later
_GOLD_SHARE = 0.05  # users who are always served uniformly


@dataclass(frozen=True)
class Served:
    """Lists of k slots that a policy chose for n users.

    Attributes:
        items: (n, k) int, by slot.
        propensity: (n, k) float64, the probability of each slot's item given the slots above.
        score: (n, k) float32, what the policy thought of it.
        policy: (n,) names.
    """

    items: np.ndarray
    propensity: np.ndarray
    score: np.ndarray
    policy: np.ndarray


class PopularityPolicy:
    """Slots drawn by Plackett-Luce over log-popularity, mixed with a uniform draw.

    Its score is log(1 + decayed interactions), plus a bonus in the category the user saw last.
    What is popular is served more, is met more, and becomes more popular.
    """

    name = "popularity"

    def __init__(self, crowd: Crowd, rng: np.random.Generator) -> None:
        self._crowd = crowd
        self._rng = rng
        self._popularity = np.zeros(len(crowd.catalogue))
        self._gold = rng.random(crowd.users) < _GOLD_SHARE

    def learn(self, items: np.ndarray) -> None:
        """End a day on which `items` (n,) were interacted with."""
        counts = np.bincount(items, minlength=len(self._popularity))
        self._popularity = _POPULARITY_MEMORY * self._popularity + counts

    def __call__(self, users: np.ndarray, eligible: np.ndarray) -> Served:
        """Serve `users` (n,) from the items that `eligible` (n, I) allows each."""
        same = self._crowd.last_category(users)[:, None] == self._crowd.catalogue.category_index
        scores = np.log1p(self._popularity) + _CATEGORY_BONUS * same
        gold = self._gold[users]
        epsilon = np.where(gold, 1.0, _EPSILON)
        items, propensity = draw_slots(scores, eligible, epsilon, SLOTS, self._rng)
        return Served(
            items,
            propensity,
            np.take_along_axis(scores, items, axis=1).astype(np.float32),
            np.where(gold, "uniform", self.name),
        )


def draw_slots(
    scores: np.ndarray,
    eligible: np.ndarray,
    epsilon: np.ndarray,
    slots: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Fill slots one by one, for many users at once, and say how likely each pick was.

    A slot is drawn from p = (1 - epsilon) softmax(scores) + epsilon / remaining over the eligible
    items that no slot above holds (Plackett-Luce, mixed per slot with a uniform draw).

    Args:
        scores: (n, I) log-weights.
        eligible: (n, I) bool, at least `slots` true in every row.
        epsilon: (n,) in [0, 1].
        slots: k.

    Returns:
        Items (n, k) int64 and their propensities (n, k) float64.
    """
    rows = np.arange(len(scores))
    remaining = eligible.astype(np.float64)
    weight = np.exp(scores - scores.max(axis=1, keepdims=True)) * remaining
    items = np.empty((len(scores), slots), dtype=np.int64)
    propensity = np.empty((len(scores), slots))
    for slot in range(slots):
        probability = weight * ((1 - epsilon) / weight.sum(axis=1))[:, None]
        probability += remaining * (epsilon / remaining.sum(axis=1))[:, None]
        cumulative = np.cumsum(probability, axis=1)
        threshold = rng.random(len(scores)) * cumulative[:, -1]
        # The first item whose cumulative probability exceeds the threshold has a positive one.
        picked = (cumulative <= threshold[:, None]).sum(axis=1)
        items[:, slot] = picked
        propensity[:, slot] = probability[rows, picked]
        weight[rows, picked] = 0.0
        remaining[rows, picked] = 0.0
    return items, propensity
