"""Online figures against the simulator's truth and against textbook answers."""

import numpy as np
import pytest

from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.policy import Policy, draw_slate
from serving.monitoring import quality
from serving.monitoring.outcomes import ServedList

K = 10
POLICY = Policy("epsilon_plackett_luce", temperature=1.0, epsilon=0.3)


def serve(storefront, users, rng, *, logged_as=POLICY):
    """Lists by a ranking of appeal, clicked by the truth; and the true value of uniform serving."""
    crowd, catalogue = storefront.crowd, storefront.catalogue
    lists, truth = [], []
    candidates = np.argsort(-catalogue.appeal)[:100]
    for user in users:
        probability = crowd.click_probability(np.array([user]))[0]
        eligible = crowd.eligible(np.array([user]), storefront.day)[0]
        own = candidates[eligible[candidates]]
        slate = draw_slate(own, 2 * catalogue.appeal[own], eligible, K, POLICY, rng)
        looked_at = position_bias(K)
        remaining = eligible.copy()
        for slot, item in enumerate(slate.items):
            truth.append(probability[remaining].mean() * looked_at[slot])
            remaining[item] = False
        lists.append(
            ServedList(
                user_id=str(user),
                served_at=0,
                policy=POLICY.name,
                model_version="v",
                degraded=False,
                item_ids=[str(i) for i in slate.items],
                scores=catalogue.appeal[slate.items],
                propensities=slate.propensities,
                drawn=np.ones(K, dtype=bool),
                remaining=eligible.sum() - np.arange(K),
                history_length=0,
                clicked=rng.random(K) < probability[slate.items] * looked_at,
            )
        )
    return lists, float(np.mean(truth))


@pytest.fixture(scope="module")
def storefront():
    storefront = Storefront(seed=5, users=500, days=10)
    storefront.source()
    return storefront


def test_the_inverse_propensity_interval_covers_the_simulator_s_truth(storefront):
    rng = np.random.default_rng(0)
    covered = weights_right = 0
    for _ in range(40):
        # Users come back: their lists are not independent, and the interval has to know.
        users = np.repeat(rng.choice(500, 150), rng.integers(1, 5, 150))
        lists, truth = serve(storefront, users, rng)
        found = quality.uniform_value(lists)
        covered += found.ips.low <= truth <= found.ips.high
        weights_right += found.mean_weight.low <= 1 <= found.mean_weight.high
        naive = quality.click_through(lists)
        assert naive.value > truth  # what is liked is shown more: clicks alone would mislead
    assert covered >= 34  # of 40 at 95 %: fewer has a chance below 1 %
    assert weights_right >= 34


def test_wrong_propensities_show_in_the_mean_weight(storefront):
    lists, _ = serve(storefront, range(500), np.random.default_rng(1))
    for served in lists:
        served.propensities = np.minimum(2 * served.propensities, 1)
    mean_weight = quality.uniform_value(lists).mean_weight
    assert mean_weight.high < 0.7


def test_the_effective_sample_size_of_equal_weights_is_the_number_of_slots(storefront):
    lists, _ = serve(storefront, range(50), np.random.default_rng(2))
    for served in lists:
        served.propensities = 1 / served.remaining
    found = quality.uniform_value(lists)
    assert found.effective_sample_size == pytest.approx(50 * K)
    assert found.ips == quality.click_through(lists)


def test_errors_are_those_of_a_bootstrap_over_users():
    rng = np.random.default_rng(3)
    owner = np.repeat(np.arange(200), rng.integers(1, 8, 200))
    rate = rng.beta(1, 4, 200)[owner]
    numerator = rng.binomial(10, rate).astype(float)
    denominator = np.full(len(owner), 10.0)
    draws = []
    for _ in range(1000):
        times = np.bincount(rng.integers(200, size=200), minlength=200)[owner]
        draws.append((times * numerator).sum() / (times * denominator).sum())
    found = quality.ratio(numerator, denominator, owner)
    assert found.value == numerator.sum() / denominator.sum()
    assert found.error == pytest.approx(np.std(draws), rel=0.1)


def test_click_through_by_position_counts_slots_that_were_served(storefront):
    lists, _ = serve(storefront, range(20), np.random.default_rng(4))
    by_slot = quality.click_through_by_position(lists, str)
    clicks = np.stack([served.clicked for served in lists])
    assert by_slot == {str(slot): clicks[:, slot].mean() for slot in range(K)}


def test_entropy_is_one_for_equal_scores_and_zero_for_a_sure_one(storefront):
    lists, _ = serve(storefront, range(2), np.random.default_rng(5))
    lists[0].scores = np.zeros(K)
    assert quality.score_entropy(lists[:1]) == pytest.approx(1)
    lists[0].scores = np.array([1000.0] + [0.0] * (K - 1))
    assert quality.score_entropy(lists[:1]) == pytest.approx(0)
    lists[0].scores = np.full(K, np.nan)
    assert np.isnan(quality.score_entropy(lists[:1]))


def test_calibration_is_exact_where_the_curve_is_the_truth(storefront):
    lists, _ = serve(storefront, np.repeat(np.arange(500), 4), np.random.default_rng(6))
    rng = np.random.default_rng(7)
    curve = Calibration([-3.0, 3.0], [0.02, 0.5], 0.25, 0, 0)
    for served in lists:
        served.clicked = rng.random(K) < curve.p_interact(served.scores, np.arange(K))
    found = quality.calibration(lists, curve)
    assert len(found.predicted) == 10
    assert np.allclose(found.predicted, found.observed, atol=0.03)
    off = Calibration([-3.0, 3.0], [0.2, 1.0], 0.25, 0, 0)
    assert quality.calibration(lists, off).ece > 0.1


def test_slots_that_a_rule_has_placed_count_for_nothing(storefront):
    rng = np.random.default_rng(7)
    lists, _ = serve(storefront, range(30), rng)
    with_pins, _ = serve(storefront, range(30), np.random.default_rng(7))
    for served in with_pins:  # a slot more, at the top, that everybody clicks
        served.item_ids.insert(0, "pinned")
        served.drawn = np.append(False, served.drawn)
        served.clicked = np.append(True, served.clicked)
        served.scores = np.append(9.0, served.scores)
        served.propensities = np.append(1.0, served.propensities)
        served.remaining = np.append(served.remaining[0], served.remaining)
    assert quality.click_through(with_pins) == quality.click_through(lists)
    assert quality.uniform_value(with_pins) == quality.uniform_value(lists)
    assert list(quality.click_through_by_position(with_pins, str)) == [
        str(n) for n in range(1, K + 1)
    ]
