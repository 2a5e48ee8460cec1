"""Quality of the lists in a window: what was clicked, what would have been, what was next.

Everything is a function of lists; intervals treat users as the independent unit. Slots that a rule
has placed are left out: they say nothing of a policy or a model.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sasrec.off_policy.calibration import Calibration, Reliability, reliability
from serving.monitoring.outcomes import ServedList

Z = 1.96  # of a two-sided 95 % interval
CUTOFFS = (1, 10)


@dataclass(frozen=True)
class Figure:
    """An estimate and its 95 % interval; `error` is the standard error."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.value - Z * self.error

    @property
    def high(self) -> float:
        """Upper end."""
        return self.value + Z * self.error


@dataclass(frozen=True)
class UniformValue:
    """What filling slots uniformly would earn, seen through the lists of another policy.

    With weight w = (1 / remaining eligible items) / propensity over n slots and clicks r:

    Attributes:
        ips: Σ w r / n (Horvitz and Thompson, 1952).
        snips: Σ w r / Σ w (Swaminathan and Joachims, 2015).
        effective_sample_size: (Σ w)² / Σ w² (Kish, 1965), in slots.
        mean_weight: 1 in expectation, whatever the policy, if and only if the logged propensities
            are those of the draws: the check that needs no clicks.
    """

    ips: Figure
    snips: Figure
    effective_sample_size: float
    mean_weight: Figure


def click_through(lists: Sequence[ServedList]) -> Figure:
    """Clicked slots per drawn slot."""
    return ratio(
        np.array([(served.clicked & served.drawn).sum() for served in lists]),
        np.array([served.drawn.sum() for served in lists]),
        users(lists),
    )


def click_through_by_position(
    lists: Sequence[ServedList], bucket: Callable[[int], str]
) -> dict[str, float]:
    """Clicked share of the drawn slots of each position bucket."""
    clicks: dict[str, int] = {}
    slots: dict[str, int] = {}
    for served in lists:
        for position in np.flatnonzero(served.drawn).tolist():
            name = bucket(position)
            slots[name] = slots.get(name, 0) + 1
            clicks[name] = clicks.get(name, 0) + int(served.clicked[position])
    return {name: clicks[name] / slots[name] for name in slots}


def uniform_value(lists: Sequence[ServedList]) -> UniformValue:
    """Inverse-propensity value of uniform serving in the contexts of `lists`."""
    weights = [
        served.drawn / np.maximum(served.remaining, 1) / served.propensities for served in lists
    ]
    owner = users(lists)
    slots = np.array([served.drawn.sum() for served in lists])
    weight = np.array([w.sum() for w in weights])
    earned = np.array(
        [(w * served.clicked).sum() for w, served in zip(weights, lists, strict=True)]
    )
    square = sum(float((w**2).sum()) for w in weights)
    return UniformValue(
        ips=ratio(earned, slots, owner),
        snips=ratio(earned, weight, owner),
        effective_sample_size=float(weight.sum() ** 2 / square) if square else 0.0,
        mean_weight=ratio(weight, slots, owner),
    )


def next_item(lists: Sequence[ServedList], k: int) -> tuple[Figure, Figure] | None:
    """Delayed hit@k and NDCG@k over the lists whose user's next item is known; None without any.

    With one relevant item, NDCG@k is 1 / log2(1 + rank) within the first k, else 0.
    """
    judged = [served for served in lists if served.next_rank is not None]
    if not judged:
        return None
    rank = np.array([served.next_rank for served in judged])
    hit = (rank > 0) & (rank <= k)
    gain = np.where(hit, 1 / np.log2(1 + np.maximum(rank, 1)), 0.0)
    owner, ones = users(judged), np.ones(len(judged))
    return ratio(hit.astype(float), ones, owner), ratio(gain, ones, owner)


def difference(a: Figure, b: Figure) -> Figure:
    """a − b of two groups of users that do not overlap."""
    return Figure(a.value - b.value, float(np.hypot(a.error, b.error)))


def calibration(lists: Sequence[ServedList], curve: Calibration) -> Reliability | None:
    """Expected against observed clicks by decile of the expectation; None without a scored slot."""
    scores, positions, outcome = slots(lists)
    known = np.isfinite(scores)
    if not known.any():
        return None
    expected = curve.p_interact(scores[known], positions[known])
    return reliability(expected, outcome[known])


def slots(lists: Sequence[ServedList]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, position and click of every drawn slot, (n,) each."""
    return (
        np.concatenate([served.scores[served.drawn] for served in lists]),
        np.concatenate([np.flatnonzero(served.drawn) for served in lists]),
        np.concatenate([served.clicked[served.drawn] for served in lists]).astype(float),
    )


def score_entropy(lists: Sequence[ServedList]) -> float:
    """Mean entropy of softmax(scores) over each list's scored slots, over its maximum log(k).

    1 says that the model is indifferent between what it shows, 0 that it is sure of one item.
    NaN without a list of two scored slots.
    """
    shares = []
    for served in lists:
        scores = served.scores[np.isfinite(served.scores)]
        if len(scores) > 1:
            weight = np.exp(scores - scores.max())
            p = weight / weight.sum()
            # An item that never wins adds nothing: p log p goes to 0.
            shares.append(-(p * np.log(np.maximum(p, 1e-300))).sum() / np.log(len(p)))
    return float(np.mean(shares)) if shares else float("nan")


def users(lists: Sequence[ServedList]) -> np.ndarray:
    """(n,) int codes of the lists' users; each anonymous list is its own."""
    names: dict[object, int] = {}
    codes = itertools.count()
    return np.array(
        [
            next(codes) if served.user_id is None else names.setdefault(served.user_id, next(codes))
            for served in lists
        ]
    )


def ratio(numerator: np.ndarray, denominator: np.ndarray, owner: np.ndarray) -> Figure:
    """Σ numerator / Σ denominator with a standard error clustered by owner; all (n,).

    The delta method over users (Deng, Knoblich and Lu, 2018, "Applying the delta method in metric
    analytics", KDD, section 3): closed form, so that it can run on every update.
    """
    total = denominator.sum()
    value = numerator.sum() / total
    residual = np.bincount(owner, weights=numerator - value * denominator)
    clusters = len(np.unique(owner))
    correction = clusters / max(clusters - 1, 1)
    return Figure(float(value), float(np.sqrt(correction * (residual**2).sum()) / total))
