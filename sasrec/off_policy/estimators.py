"""What another policy would have earned on logged traffic, and when the log cannot say.

Per slot: the value of letting the target policy fill one slot, given the slots above it as they
were logged. With reward r, logged propensity p, target probability π of the logged item and weight
w = π / p, over n slots:

    IPS    = Σ w r / n                                   (Horvitz and Thompson, 1952)
    SNIPS  = Σ w r / Σ w                                 (Swaminathan and Joachims, 2015)
    DR     = Σ [v + w (r − q)] / n                       (Dudík, Langford and Li, 2011)

q is a reward model's value of the logged item and v = Σ_a π(a) q(a) its value of the policy's own
choice. Intervals resample users. Three checks refuse an estimate; none of them can be switched off.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sasrec.errors import DataError
from sasrec.evaluation.bootstrap import CONFIDENCE, RESAMPLES, Interval, ratio_intervals

MINIMUM_EFFECTIVE_SAMPLE = 1000
MINIMUM_EFFECTIVE_SHARE = 0.01
MEAN_WEIGHT_ERRORS = 3.0
ROUNDING = 1e-6
UNSUPPORTED_SHARE = 0.01


@dataclass(frozen=True)
class LoggedSlots:
    """n logged slots and what the target policy thinks of them; all arrays are (n,).

    Attributes:
        user: the independent unit, any hashable labels.
        position: int, slot in its list, 0 the first.
        reward: float in [0, 1].
        propensity: float in (0, 1], of the logged item in its slot given the slots above.
        target: float in [0, 1], the same of the target policy.
        unsupported: float in [0, 1], share of the target's choice on items the log never shows.
        served_value, policy_value: q and v of a reward model fitted on other data, or None.

    Raises:
        DataError: a value is outside its range, naming column and row.
    """

    user: np.ndarray
    position: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    target: np.ndarray
    unsupported: np.ndarray | None = None
    served_value: np.ndarray | None = None
    policy_value: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not len(self.reward):
            raise DataError("impressions: there is no logged slot")
        _reject("reward", self.reward, "[0, 1]", (self.reward >= 0) & (self.reward <= 1))
        _reject(
            "propensity", self.propensity, "(0, 1]", (self.propensity > 0) & (self.propensity <= 1)
        )
        _reject("target", self.target, "[0, 1]", (self.target >= 0) & (self.target <= 1 + ROUNDING))

    @property
    def weight(self) -> np.ndarray:
        """(n,) target over logged probability."""
        return self.target / self.propensity


@dataclass(frozen=True)
class OffPolicyEstimate:
    """The value of a target policy per slot, and whether to believe it.

    Attributes:
        policy: name of the target policy.
        slots, users: size of the log.
        logged: mean reward of the policy that logged.
        ips, snips, dr: estimates; `dr` is None without a reward model.
        effective_sample_size: (Σ w)² / Σ w² (Kish, 1965).
        max_weight, mean_weight, mean_weight_error: the last is a user-clustered standard error.
        unsupported: share of the target's choices that the log cannot speak of.
        by_position: position, logged mean reward and SNIPS value of each slot.
        refusals: why the estimate must not be used; empty when it may be.
    """

    policy: str
    slots: int
    users: int
    logged: Interval
    ips: Interval
    snips: Interval
    dr: Interval | None
    effective_sample_size: float
    max_weight: float
    mean_weight: float
    mean_weight_error: float
    unsupported: float
    by_position: list[dict[str, float]]
    refusals: list[str]

    @property
    def best(self) -> tuple[str, Interval]:
        """The estimator to quote: doubly robust where there is a reward model, else SNIPS."""
        return ("doubly robust", self.dr) if self.dr else ("self-normalised IPS", self.snips)

    def to_finding(self) -> dict[str, Any]:
        """As `Evaluation.findings["off_policy"]` holds it and the gate reads it."""
        estimator, interval = self.best
        return {
            "estimator": estimator,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "logged_value": self.logged.value,
            **asdict(self),
        }


def estimate(
    log: LoggedSlots,
    *,
    policy: str,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OffPolicyEstimate:
    """Estimate the target policy's value per slot, with user-level intervals.

    Args:
        log: the slots.
        policy: what the target is called.
        confidence, resamples, seed: of the bootstrap.
    """
    weight = log.weight
    columns = {
        "logged": (log.reward, np.ones_like(weight)),
        "ips": (weight * log.reward, np.ones_like(weight)),
        "snips": (weight * log.reward, weight),
    }
    if log.served_value is not None and log.policy_value is not None:
        residual = log.reward - log.served_value
        columns["dr"] = (log.policy_value + weight * residual, np.ones_like(weight))
    owner = np.unique(log.user, return_inverse=True)[1]
    numerator, denominator = (
        np.stack([np.bincount(owner, weights=c[side]) for c in columns.values()], axis=1)
        for side in (0, 1)
    )
    intervals = dict(
        zip(
            columns,
            ratio_intervals(
                numerator, denominator, confidence=confidence, resamples=resamples, seed=seed
            ),
            strict=True,
        )
    )
    mean_weight, mean_weight_error = _clustered_mean(weight, owner)
    effective = float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0
    unsupported = _unsupported(log)
    return OffPolicyEstimate(
        policy=policy,
        slots=len(weight),
        users=len(numerator),
        logged=intervals["logged"],
        ips=intervals["ips"],
        snips=intervals["snips"],
        dr=intervals.get("dr"),
        effective_sample_size=effective,
        max_weight=float(weight.max()),
        mean_weight=mean_weight,
        mean_weight_error=mean_weight_error,
        unsupported=unsupported,
        by_position=_by_position(log),
        refusals=_refusals(len(weight), effective, mean_weight, mean_weight_error, unsupported),
    )


def _refusals(
    slots: int, effective: float, mean_weight: float, error: float, unsupported: float
) -> list[str]:
    refusals = []
    if unsupported > UNSUPPORTED_SHARE:
        refusals.append(
            f"support violation: {unsupported:.1%} of the policy's choices are items that the log "
            "never shows; log with exploration"
        )
    needed = max(MINIMUM_EFFECTIVE_SAMPLE, MINIMUM_EFFECTIVE_SHARE * slots)
    if effective < needed:
        refusals.append(
            f"effective sample size {effective:,.0f} of {slots:,} slots is below {needed:,.0f}; "
            "log more, or explore more"
        )
    if abs(mean_weight - 1) > MEAN_WEIGHT_ERRORS * error + ROUNDING:
        refusals.append(
            f"mean weight {mean_weight:.3f} is more than {MEAN_WEIGHT_ERRORS:g} standard errors "
            f"({error:.3f}) from 1: the logged propensities are not those of the log"
        )
    return refusals


def _unsupported(log: LoggedSlots) -> float:
    """What is logged with probability 1 left nothing for any other choice."""
    certain = log.propensity == 1
    missed = np.where(certain, 1 - log.target, 0.0)
    if log.unsupported is not None:
        missed = np.where(certain, missed, log.unsupported)
    return float(missed.mean())


def _clustered_mean(values: np.ndarray, owner: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error when the values of one owner are not independent."""
    mean = values.mean()
    clusters = owner.max() + 1
    total = np.bincount(owner, weights=values - mean)
    error = np.sqrt((total**2).sum() * clusters / max(clusters - 1, 1)) / len(values)
    return float(mean), float(error)


def _by_position(log: LoggedSlots) -> list[dict[str, float]]:
    rows = []
    for position in np.unique(log.position):
        here = log.position == position
        weight, reward = log.weight[here], log.reward[here]
        total = weight.sum()
        rows.append(
            {
                "position": int(position),
                "logged": float(reward.mean()),
                "snips": float((weight * reward).sum() / total) if total else float("nan"),
            }
        )
    return rows


def _reject(column: str, values: np.ndarray, allowed: str, inside: np.ndarray) -> None:
    if not inside.all():
        row = int(np.argmin(inside))
        raise DataError(
            f"impressions: column '{column}' at row {row} is {values[row]}, must be in {allowed}"
        )
