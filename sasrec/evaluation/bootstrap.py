"""Confidence intervals by resampling users: the unit that is independent, not its events.

Every statistic here is a ratio of sums over users, Σ numerator / Σ denominator; a mean has
denominator 1, a slice has its membership. One set of resampled user counts serves all columns, so
differences are paired and columns can be compared (Efron and Tibshirani, 1993, chapters 10 and 13).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95
RESAMPLES_PER_BLOCK = 50


@dataclass(frozen=True)
class Interval:
    """An estimate and its two-sided interval.

    Attributes:
        value: the statistic on the users as they are; NaN where its denominator is 0.
        low, high: the interval.
        confidence: its nominal coverage; for simultaneous intervals, that of all of them at once.
        users: how many users carry weight in the statistic.
    """

    value: float
    low: float
    high: float
    confidence: float
    users: int


def mean_intervals(
    values: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Percentile intervals of the column means of `values` (B, m), one user a row.

    NaN marks a user for whom a column is not defined; such users are left out of that column.
    """
    defined = ~np.isnan(values)
    return ratio_intervals(
        np.where(defined, values, 0.0),
        defined.astype(float),
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    )


def ratio_intervals(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Percentile intervals of Σ numerator / Σ denominator, each on its own.

    Args:
        numerator, denominator: (B, m), one user a row, one statistic a column.
        confidence: in (0, 1).
        resamples: how many times B users are drawn with replacement.
        seed: of the draws; equal seeds resample equal users.
    """
    estimate, draws = _resample(numerator, denominator, resamples, seed)
    tail = (1 - confidence) / 2
    with warnings.catch_warnings():  # a column that is defined for nobody stays NaN
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(draws, [tail, 1 - tail], axis=0)
    return _intervals(estimate, low, high, confidence, denominator)


def simultaneous_intervals(
    numerator: np.ndarray,
    denominator: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Interval]:
    """Intervals that all hold at once: estimate ± c · SE, c the quantile of the largest |t|.

    The max-t bootstrap (Romano and Wolf, 2005): it corrects for the number of columns and, unlike
    Bonferroni, for how much they overlap. A column whose resamples do not vary gets no width.
    Arguments as in `ratio_intervals`.
    """
    estimate, draws = _resample(numerator, denominator, resamples, seed)
    error = np.nanstd(draws, axis=0, ddof=1)
    deviation = np.abs(draws - estimate) / np.where(error > 0, error, np.inf)
    critical = np.quantile(np.nanmax(deviation, axis=1), confidence)
    return _intervals(
        estimate, estimate - critical * error, estimate + critical * error, confidence, denominator
    )


def _resample(
    numerator: np.ndarray, denominator: np.ndarray, resamples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The statistics (m,) as they are and (resamples, m) as resampled."""
    if not len(numerator):
        raise ValueError("bootstrap: there is no user to resample")
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate = numerator.sum(0) / denominator.sum(0)
        draws = [
            (counts @ numerator) / (counts @ denominator)
            for counts in _user_counts(len(numerator), resamples, seed)
        ]
    return estimate, np.concatenate(draws)


def _user_counts(users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user is drawn, (up to `RESAMPLES_PER_BLOCK`, users) float64 at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, RESAMPLES_PER_BLOCK):
        rows = min(RESAMPLES_PER_BLOCK, resamples - start)
        drawn = rng.integers(users, size=(rows, users)) + np.arange(rows)[:, None] * users
        counts = np.bincount(drawn.ravel(), minlength=rows * users)
        yield counts.reshape(rows, users).astype(np.float64)


def _intervals(
    estimate: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    confidence: float,
    denominator: np.ndarray,
) -> list[Interval]:
    users = np.count_nonzero(denominator, axis=0)
    return [
        Interval(float(e), float(lo), float(hi), confidence, int(n))
        for e, lo, hi, n in zip(estimate, low, high, users, strict=True)
    ]
