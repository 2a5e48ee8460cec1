"""Slate policies whose every slot carries the exact probability with which it was chosen.

A slate is drawn slot by slot, from a mixture of three. With probability `epsilon` a slot takes an
item uniform over everything eligible that is not yet shown; with `new_share` one uniform over the
new items among these; else the next item of a Plackett-Luce ranking of the candidates (Luce 1959;
Plackett 1975). Given the slots above, the item i of a slot has

    p(i) = (1 - epsilon - new_share) * exp(s_i / T) / sum_{j in C} exp(s_j / T)
           + epsilon / |E|  +  new_share / |N|

with C the candidates, E the eligible items and N the new ones that are still free; an item has the
terms of the sets that it is in. Temperature 0 is greedy; epsilon 1 is uniform. Once N is empty, its
share is the ranking's; once C is empty, the ranking's share is uniform.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Policy:
    """How slots are drawn.

    Attributes:
        name: what impressions are logged under.
        temperature: >= 0, in units of the scores; 0 takes the best remaining candidate.
        epsilon: in [0, 1], the share of slots drawn uniformly over the eligible items.
        new_share: in [0, 1 - epsilon], the share of slots drawn uniformly over the new items.
    """

    name: str
    temperature: float = 0.0
    epsilon: float = 0.0
    new_share: float = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"policy {self.name}: temperature is {self.temperature}, must be >= 0")
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"policy {self.name}: epsilon is {self.epsilon}, must be in [0, 1]")
        if not 0 <= self.new_share <= 1 - self.epsilon:
            raise ValueError(
                f"policy {self.name}: new_share is {self.new_share}, must be in [0, 1 - epsilon]"
            )


GREEDY = Policy("greedy")
UNIFORM = Policy("uniform", epsilon=1.0)


@dataclass(frozen=True)
class Slate:
    """What was drawn, best slot first.

    Attributes:
        items: (k,) int64 item indices, distinct.
        propensities: (k,) float64, the probability of each slot given the slots above it.
        explored: (k,) bool, whether the uniform part of the mixture drew the slot.
        introduced: (k,) bool, whether the part for new items did.
        placed: (k,) bool, whether a rule put the item there; None where no rule did.
        remaining: (k,) int64, how many items might have been drawn into each slot; None where that
            falls by one a slot.
    """

    items: np.ndarray
    propensities: np.ndarray
    explored: np.ndarray
    introduced: np.ndarray
    placed: np.ndarray | None = None
    remaining: np.ndarray | None = None


NO_ITEMS = np.empty(0, dtype=np.int64)


def draw_slate(
    candidates: np.ndarray,
    scores: np.ndarray,
    eligible: np.ndarray,
    k: int,
    policy: Policy,
    rng: np.random.Generator,
    new: np.ndarray = NO_ITEMS,
) -> Slate:
    """Draw up to `k` distinct items; fewer only when fewer are eligible.

    The Plackett-Luce ranking is one Gumbel-top-k draw (Kool et al. 2019, section 2.3). Removing an
    item that another part drew leaves the rest a Plackett-Luce ranking, since the exponential
    clocks behind the Gumbel variables have no memory.

    Args:
        candidates: (C,) int64 distinct item indices, all eligible.
        scores: (C,) float, finite, higher is better.
        eligible: (V + 1,) bool mask over item indices.
        new: (N,) int64 distinct item indices, all eligible.
    """
    num_eligible = int(np.count_nonzero(eligible))
    k = min(k, num_eligible)
    ranking = iter(candidates[_plackett_luce_order(scores, policy.temperature, rng)].tolist())
    part = rng.random(k)
    explored = part < policy.epsilon
    introduced = ~explored & (part < policy.epsilon + policy.new_share)
    uniform = _uniform_draws(eligible, num_eligible, rng)
    unshown = iter(rng.permutation(new).tolist() if introduced.any() else ())

    items: list[int] = []
    taken: set[int] = set()
    for slot in range(k):
        item = None
        if introduced[slot]:
            item = next((i for i in unshown if i not in taken), None)
            introduced[slot] = item is not None
        if item is None and not explored[slot]:
            item = next((i for i in ranking if i not in taken), None)
        if item is None:
            item = next(i for i in uniform if i not in taken)
            explored[slot] = True
        items.append(item)
        taken.add(item)

    slate = np.array(items, dtype=np.int64)
    propensities = slot_propensities(slate, candidates, scores, num_eligible, policy, new)
    return Slate(slate, propensities, explored, introduced)


def slot_propensities(
    slate: np.ndarray,
    candidates: np.ndarray,
    scores: np.ndarray,
    num_eligible: int,
    policy: Policy,
    new: np.ndarray = NO_ITEMS,
) -> np.ndarray:
    """The probability of each slot of `slate` given the slots above it, (k,) float64.

    Args:
        slate: (k,) distinct eligible item indices, in slot order.
        candidates: (C,) distinct item indices; `scores` (C,) are theirs.
        num_eligible: how many items were eligible before the first slot.
        new: (N,) distinct eligible item indices.
    """
    k = len(slate)
    uniform = 1.0 / (num_eligible - np.arange(k))
    is_new = np.isin(slate, new)
    new_left = len(new) - _before(is_new)
    introduced = np.where(new_left > 0, policy.new_share, 0.0)
    purposeful = introduced * is_new / np.maximum(new_left, 1)
    if len(candidates) == 0:
        return (1 - introduced) * uniform + purposeful

    by_item = np.argsort(candidates)
    found = np.searchsorted(candidates, slate, sorter=by_item).clip(max=len(candidates) - 1)
    position = by_item[found]
    is_candidate = candidates[position] == slate

    if policy.temperature == 0:
        ranked = _greedy_share(slate, candidates, scores)
    else:
        # Log-weights in the order slate first, then the candidates that were not shown.
        unshown = np.ones(len(candidates), dtype=bool)
        unshown[position[is_candidate]] = False
        score = np.where(is_candidate, scores[position], -np.inf)
        log_weight = np.concatenate([score, scores[unshown]]).astype(np.float64)
        log_weight /= policy.temperature
        log_total = np.logaddexp.accumulate(log_weight[::-1])[::-1][:k]
        with np.errstate(invalid="ignore"):
            ranked = np.where(is_candidate, np.exp(log_weight[:k] - log_total), 0.0)

    candidates_left = len(candidates) - _before(is_candidate)
    mixed = (1 - policy.epsilon - introduced) * ranked + policy.epsilon * uniform
    return np.where(candidates_left > 0, mixed, (1 - introduced) * uniform) + purposeful


def _before(chosen: np.ndarray) -> np.ndarray:
    """(k,) int64, how many of the slots above each are `chosen` (k,) bool."""
    return np.cumsum(chosen) - chosen


def hash_share(key: str, salt: str) -> float:
    """A stable number in [0, 1) for `key`: the same in every process, for every version.

    Different salts give independent splits of the same users.
    """
    digest = hashlib.blake2b(key.encode(), key=salt.encode()[:64], digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _plackett_luce_order(
    scores: np.ndarray, temperature: float, rng: np.random.Generator
) -> np.ndarray:
    """All C positions in the order drawn; ties at temperature 0 go to the earlier candidate."""
    if temperature == 0:
        return np.argsort(-scores, kind="stable")
    return np.argsort(-(scores / temperature + rng.gumbel(size=len(scores))))


def _greedy_share(slate: np.ndarray, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(k,) 1 where the slot holds the best candidate that was still free, else 0."""
    share = np.zeros(len(slate))
    ranking = candidates[np.argsort(-scores, kind="stable")].tolist()
    taken: set[int] = set()
    head = 0
    for slot, item in enumerate(slate.tolist()):
        while head < len(ranking) and ranking[head] in taken:
            head += 1
        share[slot] = head < len(ranking) and ranking[head] == item
        taken.add(item)
    return share


def _uniform_draws(
    eligible: np.ndarray, num_eligible: int, rng: np.random.Generator
) -> Iterator[int]:
    """Endless uniform draws from the mask; the caller rejects what is taken.

    The list of eligible items is built on the first draw only: most slates need none.
    """
    pool = np.flatnonzero(eligible)
    while True:
        yield int(pool[rng.integers(num_eligible)])
