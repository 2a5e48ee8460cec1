"""From a model's score to P(interacted | served), learned from logged impressions.

p(score, position) = g(score) · (1 + position)^−η: a monotone curve g (isotonic regression: Barlow
et al., 1972; Zadrozny and Elkan, 2002) times the position-based examination model (Joachims et al.,
2017). Impressions are weighted by inverse propensity, so that g holds for an item served at random:
on a uniform bucket the weights are equal, elsewhere they undo what the logging policy preferred.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from sasrec.errors import DataError

FILE = "calibration.json"
MINIMUM_INTERACTIONS = 30
LARGEST_WEIGHT = 100.0  # times the mean: a bound on what one impression may say
BINS = 10


class TooFewInteractions(DataError):
    """There is not enough to learn a curve from."""


@dataclass(frozen=True)
class Calibration:
    """A fitted curve.

    Attributes:
        scores: (m,) ascending knots of g.
        probabilities: (m,) values of g at the knots, ascending in [0, 1].
        position_decay: η >= 0.
        impressions, interactions: what it was fitted on.
    """

    scores: list[float]
    probabilities: list[float]
    position_decay: float
    impressions: int
    interactions: int

    @classmethod
    def fit(
        cls, score: np.ndarray, position: np.ndarray, reward: np.ndarray, propensity: np.ndarray
    ) -> "Calibration":
        """Learn from n served slots.

        Args:
            score: (n,) the model's score of the served item; not finite ones are left out.
            position: (n,) int, 0 the first slot.
            reward: (n,) in [0, 1].
            propensity: (n,) in (0, 1].

        Raises:
            TooFewInteractions: fewer than `MINIMUM_INTERACTIONS` to learn from.
        """
        known = np.isfinite(score)
        score, position, reward = score[known], position[known], reward[known]
        weight = 1 / propensity[known]
        if reward.sum() < MINIMUM_INTERACTIONS:
            raise TooFewInteractions(
                f"calibration: {reward.sum():g} interactions among {len(reward):,} impressions, "
                f"needs {MINIMUM_INTERACTIONS}; log more"
            )
        weight = np.minimum(weight / weight.mean(), LARGEST_WEIGHT)
        decay = _position_decay(position, reward, weight)
        looked_at = (1.0 + position) ** -decay
        # Here and not above: a server reads curves and fits none, and this import takes a second.
        from sklearn.isotonic import IsotonicRegression

        # Weighted least squares of reward on g · looked_at is isotonic in reward / looked_at.
        isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        isotonic.fit(score, reward / looked_at, sample_weight=weight * looked_at**2)
        return cls(
            scores=isotonic.X_thresholds_.astype(float).tolist(),
            probabilities=isotonic.y_thresholds_.astype(float).tolist(),
            position_decay=decay,
            impressions=len(reward),
            interactions=int(reward.sum()),
        )

    def p_interact(self, score: np.ndarray, position: np.ndarray | int = 0) -> np.ndarray:
        """P(interacted | served at `position`), float64 in the shape of `score`."""
        return np.interp(score, self.scores, self.probabilities) * self.examination(position)

    def rescaled(self, scale: float, shift: float) -> "Calibration":
        """The curve of a model that scores `scale` · s + `shift` where this one's model scores s.

        Args:
            scale: above 0.
        """
        return replace(self, scores=[scale * score + shift for score in self.scores])

    def examination(self, position: np.ndarray | int) -> np.ndarray:
        """How much less likely an interaction is at `position` than in the first slot."""
        return (1.0 + np.asarray(position)) ** -self.position_decay

    def save(self, directory: Path) -> None:
        """Write `calibration.json` beside the model."""
        (directory / FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, directory: Path) -> "Calibration":
        """Read what `save` wrote.

        Raises:
            DataError: the file does not hold a curve.
        """
        path = directory / FILE
        try:
            return cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise DataError(f"{path}: not a calibration ({error}); fit it again") from None


@dataclass(frozen=True)
class Reliability:
    """How predicted probabilities compare with what happened.

    Attributes:
        ece: expected calibration error, Σ_bins share · |mean predicted − observed rate|, over
            bins of equal weight (Naeini et al., 2015).
        brier: mean squared error of the probability (Brier, 1950).
        brier_skill: 1 − brier over that of always saying the mean rate; 0 knows nothing of the
            item, NaN where all outcomes are equal.
        predicted, observed: per bin.
    """

    ece: float
    brier: float
    brier_skill: float
    predicted: list[float]
    observed: list[float]


def reliability(
    predicted: np.ndarray, outcome: np.ndarray, weight: np.ndarray | None = None, bins: int = BINS
) -> Reliability:
    """Compare predictions (n,) with outcomes (n,) in [0, 1], optionally weighted (n,)."""
    weight = np.ones(len(predicted)) if weight is None else weight
    order = np.argsort(predicted, kind="stable")
    predicted, outcome, weight = predicted[order], outcome[order], weight[order]
    before = np.cumsum(weight) - weight
    bin_ = np.minimum(before / weight.sum() * bins, bins - 1).astype(int)
    _, bin_ = np.unique(bin_, return_inverse=True)
    share = np.bincount(bin_, weights=weight)
    mean = np.bincount(bin_, weights=weight * predicted) / share
    rate = np.bincount(bin_, weights=weight * outcome) / share
    brier, of_mean_rate = (
        float(np.average((said - outcome) ** 2, weights=weight))
        for said in (predicted, np.average(outcome, weights=weight))
    )
    return Reliability(
        ece=float((share * np.abs(mean - rate)).sum() / share.sum()),
        brier=brier,
        brier_skill=1 - brier / of_mean_rate if of_mean_rate else float("nan"),
        predicted=mean.tolist(),
        observed=rate.tolist(),
    )


def _position_decay(position: np.ndarray, reward: np.ndarray, weight: np.ndarray) -> float:
    """η of rate ∝ (1 + position)^−η: least squares in logs, weighted by interactions."""
    interactions = np.bincount(position, weights=reward)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.bincount(position, weights=weight * reward) / np.bincount(
            position, weights=weight
        )
    seen = interactions > 0
    if seen.sum() < 2:
        return 0.0
    x, y, w = np.log1p(np.flatnonzero(seen)), np.log(rate[seen]), interactions[seen]
    x = x - np.average(x, weights=w)
    return float(max(0.0, -(w * x * y).sum() / (w * x**2).sum()))
