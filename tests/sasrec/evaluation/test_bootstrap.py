"""Intervals: known standard errors, pairing, coverage, and the correction for many slices."""

import numpy as np
import pytest

from sasrec.evaluation.bootstrap import mean_intervals, ratio_intervals, simultaneous_intervals


def test_interval_of_a_mean_has_the_textbook_width():
    values = np.random.default_rng(0).normal(3, 2, size=(5000, 1))
    (interval,) = mean_intervals(values, resamples=2000)
    assert interval.value == pytest.approx(values.mean())
    expected = 1.96 * values.std(ddof=1) / np.sqrt(5000)
    assert (interval.high - interval.low) / 2 == pytest.approx(expected, rel=0.07)


def test_same_seed_same_interval_other_seed_another():
    values = np.random.default_rng(0).normal(size=(100, 1))
    assert mean_intervals(values, seed=1) == mean_intervals(values, seed=1)
    assert mean_intervals(values, seed=1) != mean_intervals(values, seed=2)


def test_columns_are_paired():
    """The difference of two nearly equal models is known far better than either model."""
    rng = np.random.default_rng(0)
    one = rng.random(1000)
    other = one + rng.normal(0, 0.001, 1000)
    alone, difference = mean_intervals(np.stack([one, one - other], axis=1))
    assert difference.high - difference.low < (alone.high - alone.low) / 100


def test_ratio_resamples_numerator_and_denominator_together():
    denominator = np.random.default_rng(0).random((500, 1)) + 0.1
    (interval,) = ratio_intervals(3 * denominator, denominator)
    assert interval.low == pytest.approx(3)
    assert interval.high == pytest.approx(3)


def test_undefined_users_are_left_out():
    (interval,) = mean_intervals(np.array([[1.0], [np.nan], [3.0]]))
    assert interval.value == 2
    assert interval.users == 2


@pytest.mark.filterwarnings("error")
def test_a_column_that_is_defined_for_nobody_has_no_figure():
    known, unknown = mean_intervals(np.array([[1.0, np.nan], [3.0, np.nan]]))
    assert known.value == 2
    assert unknown.users == 0
    assert np.isnan([unknown.value, unknown.low, unknown.high]).all()


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        (interval,) = mean_intervals(rng.exponential(size=(200, 1)), resamples=400, seed=seed)
        covered += interval.low <= 1 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_simultaneous_intervals_accuse_some_slice_at_most_as_often_as_they_say():
    """20 slices without any effect: uncorrected intervals would accuse one in most runs."""
    rng = np.random.default_rng(0)
    corrected = uncorrected = 0
    members = np.eye(20)[np.arange(1000) % 20]
    for seed in range(100):
        numerator = members * rng.normal(size=(1000, 1))
        wide = simultaneous_intervals(numerator, members, resamples=300, seed=seed)
        narrow = ratio_intervals(numerator, members, resamples=300, seed=seed)
        corrected += any(i.high < 0 or i.low > 0 for i in wide)
        uncorrected += any(i.high < 0 or i.low > 0 for i in narrow)
    assert corrected <= 11  # P(more | 5 %) < 0.01
    assert uncorrected > 50


def test_nobody_to_resample_is_an_error():
    with pytest.raises(ValueError, match="no user to resample"):
        mean_intervals(np.zeros((0, 1)))
