"""What only the simulator can tell about a round: true click-through, reach, calibration."""

from dataclasses import dataclass

import numpy as np

from sasrec.data.simulated.crowd import Crowd, position_bias
from sasrec.data.simulated.logging_policy import SLOTS
from sasrec.off_policy.calibration import Calibration, reliability

SAMPLE = 10  # items drawn at random per request, to compare probabilities on


@dataclass(frozen=True)
class Round:
    """One team's round, while one champion served.

    Attributes:
        click_through: mean true P(interacted | served) of the slots that were served.
        model_click_through: of the champion's ten best, had they been served: without the price
            of exploring.
        coverage: share of the launched items that were among the ten best of any request.
        served_coverage: share of them that were served at all.
        calibration_error: ECE of the calibrated P(interacted | served), against the truth, on items
            drawn at random.
        model_calibration_error: on the champion's ten best.
        promoted: whether the gate let the round's candidate serve the next one.
    """

    click_through: float
    model_click_through: float
    coverage: float
    served_coverage: float
    calibration_error: float
    model_calibration_error: float
    promoted: bool


class Truth:
    """Watches a round's requests with the eyes of the simulator.

    Attributes:
        rng: of everything random in the round but the crowd.
    """

    def __init__(self, crowd: Crowd, rng: np.random.Generator) -> None:
        self._crowd = crowd
        self.rng = rng
        items = len(crowd.catalogue)
        self._served, self._best, self._launched = (np.zeros(items, dtype=bool) for _ in range(3))
        self._clicks_of_served: list[np.ndarray] = []
        self._random: list[np.ndarray] = []
        self._own: list[np.ndarray] = []

    def observe(
        self,
        users: np.ndarray,
        eligible: np.ndarray,
        scores: np.ndarray,
        served: np.ndarray,
        calibration: Calibration,
    ) -> None:
        """Note n requests.

        Args:
            users: (n,) numbers.
            eligible: (n, I) bool.
            scores: (n, I) of the champion.
            served: (n, k) items, by slot.
            calibration: the champion's.
        """
        truth = self._crowd.click_probability(users)
        bias = position_bias(SLOTS)
        best = best_items(scores, eligible)
        drawn = np.argsort(np.where(eligible, self.rng.random(eligible.shape), 2.0))[:, :SAMPLE]

        def of(values: np.ndarray, items: np.ndarray) -> np.ndarray:
            return np.take_along_axis(values, items, axis=1)

        self._launched |= eligible.any(axis=0)
        self._served[served] = True
        self._best[best] = True
        self._clicks_of_served.append((of(truth, served) * bias).ravel())
        predicted = calibration.p_interact(of(scores, drawn))
        self._random.append(np.stack([predicted.ravel(), of(truth, drawn).ravel()]))
        predicted = calibration.p_interact(of(scores, best), np.arange(SLOTS))
        self._own.append(np.stack([predicted.ravel(), (of(truth, best) * bias).ravel()]))

    def round(self, promoted: bool) -> Round:
        """Sum the round up."""
        random, own = (np.concatenate(parts, axis=1) for parts in (self._random, self._own))
        launched = self._launched.sum()
        return Round(
            click_through=float(np.concatenate(self._clicks_of_served).mean()),
            model_click_through=float(own[1].mean()),
            coverage=float(self._best.sum() / launched),
            served_coverage=float(self._served.sum() / launched),
            calibration_error=reliability(*random).ece,
            model_calibration_error=reliability(*own).ece,
            promoted=promoted,
        )


def best_items(scores: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """(n, 10) the best eligible items of each row of (n, I), best first."""
    return np.argsort(np.where(eligible, -scores, np.inf), axis=1, kind="stable")[:, :SLOTS]
