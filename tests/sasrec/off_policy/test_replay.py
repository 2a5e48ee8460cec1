"""Replay agrees with the policy that serves, slot by slot, and never reads the future."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS
from sasrec.data.vocabulary import PADDING, Vocabulary
from sasrec.errors import DataError
from sasrec.off_policy.calibration import Calibration
from sasrec.off_policy.policy import GREEDY, UNIFORM, Policy, slot_propensities
from sasrec.off_policy.replay import Requests, histories_before, replay, served_scores
from tests.sasrec.small_sequences import Lookup

ITEMS, SLOTS = 12, 4
START = datetime(2025, 1, 1, tzinfo=UTC)
VOCABULARY = Vocabulary([f"i{n}" for n in range(1, ITEMS + 1)])
CALIBRATION = Calibration([-3.0, 3.0], [0.0, 0.6], 0.5, 1000, 100)


def at(minute):
    return START + timedelta(minutes=minute)


def interactions(rows):
    """Rows of (user, item, minute)."""
    users, items, minutes = zip(*rows, strict=True)
    return pa.table(
        [
            users,
            items,
            [at(m) for m in minutes],
            ["view"] * len(rows),
            pa.nulls(len(rows), pa.float32()),
            list(range(len(rows))),
        ],
        schema=INTERACTIONS,
    )


def impressions(rows):
    """Rows of (request, user, item, position, minute, propensity, reward)."""
    request, user, item, position, minute, propensity, reward = zip(*rows, strict=True)
    n = len(rows)
    return pa.table(
        [
            request, user, item, pa.array(position, pa.int16()), [at(m) for m in minute],
            ["uniform"] * n, ["m1"] * n, pa.nulls(n, pa.float32()), propensity,
            pa.array([ITEMS] * n, pa.int32()), pa.array(reward, pa.float32()),
        ],
        schema=IMPRESSIONS,
    )  # fmt: skip


def replay_one(scorer, requests, policy, candidates=200):
    (got,) = replay(
        scorer, requests, [policy], candidates=candidates, calibration=CALIBRATION
    ).values()
    return got


@pytest.fixture(scope="module")
def scorer():
    return Lookup(np.random.default_rng(0).normal(size=(ITEMS + 1, ITEMS + 1)))


@pytest.fixture(scope="module")
def requests():
    rng = np.random.default_rng(1)
    past, served = [], []
    for user in range(30):
        seen = rng.choice(ITEMS, 3, replace=False)
        past += [(f"u{user}", f"i{i + 1}", minute) for minute, i in enumerate(seen)]
        fresh = rng.permutation(np.setdiff1d(np.arange(ITEMS), seen))[:SLOTS]
        served += [
            (f"r{user}", f"u{user}", f"i{i + 1}", slot, 10 + user, 0.1, float(slot == 1))
            for slot, i in enumerate(fresh)
        ]
    return Requests.build(impressions(served), interactions(past), VOCABULARY)


@pytest.mark.parametrize(
    "policy",
    [GREEDY, UNIFORM, Policy("soft", 0.7), Policy("mixed", 0.5, 0.2), Policy("eps", 0.0, 0.1)],
    ids=lambda policy: policy.name,
)
@pytest.mark.parametrize("candidates", [3, 200])
def test_target_probabilities_are_those_of_the_serving_policy(scorer, requests, policy, candidates):
    got = replay_one(scorer, requests, policy, candidates=candidates)
    scores = scorer.logits(requests.histories).numpy()
    for row, history in enumerate(requests.histories):
        eligible = np.setdiff1d(np.arange(1, ITEMS + 1), history)
        best = eligible[np.argsort(-scores[row, eligible], kind="stable")][:candidates]
        expected = slot_propensities(
            requests.items[row], best, scores[row, best], len(eligible), policy
        )
        np.testing.assert_allclose(got.target[row], expected, atol=1e-12)


def test_the_reward_model_values_what_was_served_and_what_would_have_been(scorer, requests):
    got = replay_one(scorer, requests, GREEDY)
    scores = scorer.logits(requests.histories).numpy()
    row, slot = 7, 2
    taken = [*list(requests.histories)[row], *requests.items[row, :slot]]
    left = np.setdiff1d(np.arange(1, ITEMS + 1), taken)
    served = requests.items[row, slot]
    best = left[scores[row, left].argmax()]
    assert got.served_value[row, slot] == pytest.approx(
        float(CALIBRATION.p_interact(scores[row, served], slot))
    )
    assert got.policy_value[row, slot] == pytest.approx(
        float(CALIBRATION.p_interact(scores[row, best], slot))
    )


def test_served_scores_are_the_scorers(scorer, requests):
    expected = np.take_along_axis(scorer.logits(requests.histories).numpy(), requests.items, axis=1)
    np.testing.assert_allclose(served_scores(scorer, requests), expected)
    got = replay_one(scorer, requests, UNIFORM)
    np.testing.assert_allclose(got.score, expected)


def test_logged_slots_are_the_filled_ones(scorer, requests):
    got = replay_one(scorer, requests, UNIFORM)
    log = got.logged_slots(requests)
    assert len(log.reward) == 30 * SLOTS
    assert log.reward.mean() == pytest.approx(1 / SLOTS)
    assert set(log.user) == {f"u{n}" for n in range(30)}


def test_items_that_no_impression_shows_are_unsupported(scorer):
    past = interactions([("u", "i1", 0)])
    served = impressions([("r", "u", "i2", 0, 5, 0.5, 0.0), ("r", "u", "i3", 1, 5, 0.5, 0.0)])
    requests = Requests.build(served, past, VOCABULARY)
    got = replay_one(scorer, requests, UNIFORM)
    np.testing.assert_allclose(got.unsupported, [[9 / 11, 9 / 10]])


def test_unknown_items_have_no_score_and_no_probability(scorer):
    past = interactions([("u", "i1", 0)])
    served = impressions([("r", "u", "new", 0, 5, 0.5, 1.0), ("r", "u", "i3", 1, 5, 0.5, 0.0)])
    requests = Requests.build(served, past, VOCABULARY)
    got = replay_one(scorer, requests, UNIFORM)
    assert requests.items.tolist() == [[PADDING, 3]]
    assert np.isnan(got.score[0, 0])
    assert got.target[0].tolist() == [0, pytest.approx(1 / 11)]


def test_histories_end_strictly_before_the_question():
    log = interactions(
        [("b", "i1", 0), ("a", "i2", 5), ("b", "i3", 10), ("a", "new", 6), ("b", "i4", 20)]
    )
    asked = [("a", 100), ("b", 10), ("b", 11), ("nobody", 50), ("b", 0)]
    users = np.array([user for user, _ in asked], dtype=object)
    times = np.array([int(at(m).timestamp() * 1e6) for _, m in asked])
    packed = histories_before(log, users, times, VOCABULARY)
    assert [items.tolist() for items in packed] == [[2], [1], [1, 3], [], []]
    assert packed.timestamps[0] == int(at(5).timestamp() * 1e6)


def test_rewards_that_are_not_known_yet_are_left_out():
    served = impressions([("r", "u", "i2", 0, 5, 0.5, None), ("q", "u", "i3", 0, 6, 0.5, 1.0)])
    requests = Requests.build(served, interactions([("u", "i1", 0)]), VOCABULARY)
    assert requests.items.tolist() == [[3]]


def test_a_slot_logged_twice_is_refused():
    served = impressions([("r", "u", "i2", 0, 5, 0.5, 0.0), ("r", "u", "i3", 0, 5, 0.5, 1.0)])
    with pytest.raises(DataError, match="request 'r' holds a slot twice"):
        Requests.build(served, interactions([("u", "i1", 0)]), VOCABULARY)


def test_a_slot_that_a_rule_has_placed_is_out_of_the_estimate_and_out_of_the_slots_below(scorer):
    rows = [
        (f"r{user}", f"u{user}", f"i{slot + 1 + user % 3}", slot, 10, 0.25, 1.0)
        for user in range(8)
        for slot in range(3)
    ]
    log = impressions(rows)
    policy = pa.array(["uniform", "rule:pin", "uniform"] * 8)
    log = log.set_column(log.schema.get_field_index("policy"), log.schema.field("policy"), policy)
    past = interactions([("u0", "i9", 1)])
    requests = Requests.build(log, past, VOCABULARY)
    assert requests.filled.tolist() == [[True, False, True]] * 8
    got = replay_one(scorer, requests, UNIFORM)
    assert len(got.logged_slots(requests).reward) == 16
    # Of 12 items (11 for whoever has seen one) two are gone when the third slot is filled.
    np.testing.assert_allclose(got.target[1:, 2], 1 / (ITEMS - 2))
    every = Requests.build(impressions(rows), past, VOCABULARY)
    np.testing.assert_allclose(got.target, replay_one(scorer, every, UNIFORM).target)
