"""Calibration recovers a known curve, whatever policy logged it."""

import numpy as np
import pytest

from sasrec.errors import DataError
from sasrec.off_policy.calibration import Calibration, reliability


def world(n, seed, tilt):
    """Slots whose truth is known; `tilt` > 0 serves high scores more often, and knows how often."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(n, 5))
    chance = np.exp(tilt * pool) / np.exp(tilt * pool).sum(axis=1, keepdims=True)
    pick = (chance.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=4)
    score, propensity = pool[range(n), pick], chance[range(n), pick]
    position = rng.integers(0, 10, n)
    truth = 0.3 / (1 + np.exp(-2 * score)) * (1.0 + position) ** -0.5
    reward = (rng.random(n) < truth).astype(float)
    return score, position, reward, propensity, truth


@pytest.mark.parametrize("tilt", [0.0, 1.0])
def test_the_true_probability_is_recovered(tilt):
    score, position, reward, propensity, _ = world(40_000, 0, tilt)
    calibration = Calibration.fit(score, position, reward, propensity)
    score, position, _, _, truth = world(20_000, 1, 0.0)  # judged on a uniform bucket
    predicted = calibration.p_interact(score, position)
    assert calibration.position_decay == pytest.approx(0.5, abs=0.06)
    assert reliability(predicted, truth).ece < 0.01
    assert np.abs(predicted - truth).mean() < 0.015


def test_probabilities_rise_with_the_score_and_stay_in_range():
    calibration = Calibration.fit(*world(5000, 0, 0.0)[:4])
    p = calibration.p_interact(np.linspace(-10, 10, 1000))
    assert (np.diff(p) >= 0).all()
    assert p.min() >= 0
    assert p.max() <= 1


def test_later_positions_are_less_likely():
    calibration = Calibration.fit(*world(20_000, 0, 0.0)[:4])
    p = calibration.p_interact(np.full(5, 1.0), np.arange(5))
    assert (np.diff(p) < 0).all()


def test_scores_that_are_not_known_are_left_out():
    score, position, reward, propensity, _ = world(5000, 0, 0.0)
    score[::2] = np.nan
    calibration = Calibration.fit(score, position, reward, propensity)
    assert calibration.impressions == 2500
    assert calibration.interactions == reward[1::2].sum()


def test_too_few_interactions_are_refused():
    with pytest.raises(DataError, match="3 interactions among 100 impressions, needs 30"):
        Calibration.fit(
            np.zeros(100), np.zeros(100, dtype=int), np.arange(100) < 3, np.full(100, 0.5)
        )


def test_what_is_saved_is_what_is_loaded(tmp_path):
    calibration = Calibration.fit(*world(5000, 0, 0.0)[:4])
    calibration.save(tmp_path)
    assert Calibration.load(tmp_path) == calibration
    (tmp_path / "calibration.json").write_text('{"curve": 1}')
    with pytest.raises(DataError, match=r"calibration\.json: not a calibration"):
        Calibration.load(tmp_path)


def test_reliability_of_a_hand_worked_case():
    """Two bins: predicted .2 and .8, observed 0 and 1."""
    got = reliability(np.array([0.2, 0.2, 0.8, 0.8]), np.array([0.0, 0, 1, 1]), bins=2)
    assert got.ece == pytest.approx(0.2)
    assert got.brier == pytest.approx(0.04)
    assert got.brier_skill == pytest.approx(1 - 0.04 / 0.25)
    assert got.predicted == pytest.approx([0.2, 0.8])
    assert got.observed == pytest.approx([0, 1])


def test_reliability_weights_count_as_copies():
    p, y = np.array([0.1, 0.4, 0.9]), np.array([0.0, 1.0, 1.0])
    weighted = reliability(p, y, np.array([1.0, 2.0, 1.0]), bins=2)
    copied = reliability(np.array([0.1, 0.4, 0.4, 0.9]), np.array([0.0, 1, 1, 1]), bins=2)
    assert weighted.brier == pytest.approx(copied.brier)
    assert weighted.brier_skill == pytest.approx(copied.brier_skill)


def test_saying_the_mean_rate_has_no_skill():
    outcome = np.array([0.0, 0, 0, 1])
    assert reliability(np.full(4, 0.25), outcome).brier_skill == pytest.approx(0)
    assert np.isnan(reliability(np.full(4, 0.25), np.zeros(4)).brier_skill)
