import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sasrec.off_policy.policy import (
    GREEDY,
    UNIFORM,
    Policy,
    draw_slate,
    hash_share,
    slot_propensities,
)

NUM_ITEMS = 7


def storefront(excluded=()):
    """Five scored candidates among seven items, some of them excluded."""
    eligible = np.ones(NUM_ITEMS + 1, dtype=bool)
    eligible[[0, *excluded]] = False
    candidates = np.array([i for i in (3, 1, 6, 2, 7) if eligible[i]])
    scores = np.linspace(2.0, -1.0, len(candidates))
    return candidates, scores, eligible


def new_items(excluded=()):
    """Two of the seven items: one that is a candidate, and one that is not."""
    return np.array([item for item in (2, 4) if item not in excluded], dtype=np.int64)


def slate_probability(slate, policy, excluded):
    candidates, scores, eligible = storefront(excluded)
    return slot_propensities(
        np.array(slate), candidates, scores, int(eligible.sum()), policy, new_items(excluded)
    ).prod()


@pytest.mark.parametrize("excluded", [(), (3,), (3, 5), (1, 2, 3, 6, 7)])
@pytest.mark.parametrize(
    "policy",
    [
        Policy("plackett-luce", temperature=0.7),
        Policy("mixture", temperature=0.7, epsilon=0.3),
        Policy("epsilon-greedy", epsilon=0.5),
        Policy("greedy with new items", new_share=0.3),
        Policy("all three", temperature=0.7, epsilon=0.2, new_share=0.4),
        Policy("new items first", epsilon=0.25, new_share=0.75),
        UNIFORM,
    ],
    ids=lambda policy: policy.name,
)
def test_drawn_frequencies_match_the_propensities(policy, excluded):
    candidates, scores, eligible = storefront(excluded)
    rng = np.random.default_rng(0)
    draws, k = 8_000, min(3, int(eligible.sum()))
    new = new_items(excluded)
    seen = Counter(
        tuple(draw_slate(candidates, scores, eligible, k, policy, rng, new).items.tolist())
        for _ in range(draws)
    )
    slates = list(itertools.permutations(np.flatnonzero(eligible).tolist(), k))
    expected = np.array([slate_probability(s, policy, excluded) for s in slates])
    assert expected.sum() == pytest.approx(1.0)
    assert set(seen) <= {s for s, p in zip(slates, expected, strict=True) if p > 0}

    order = np.argsort(-expected)
    common = [i for i in order if expected[i] * draws >= 5]
    observed = np.array([seen[slates[i]] for i in common], dtype=float)
    rest = draws - observed.sum()
    probabilities = np.append(expected[common], 1 - expected[common].sum())
    observed = np.append(observed, rest)
    positive = probabilities > 1e-12
    assert observed[~positive].sum() == 0
    assert chisquare(observed[positive], probabilities[positive] * draws).pvalue > 1e-4


@given(
    scores=st.lists(st.floats(-500, 500), min_size=1, max_size=NUM_ITEMS),
    temperature=st.sampled_from([0.0, 1e-3, 1.0, 50.0]),
    epsilon=st.floats(0, 1),
    new_share=st.floats(0, 1),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_a_slate_is_distinct_eligible_and_every_slot_possible(
    scores, temperature, epsilon, new_share, k, seed
):
    candidates = np.arange(1, len(scores) + 1)
    eligible = np.ones(NUM_ITEMS + 1, dtype=bool)
    eligible[0] = False
    policy = Policy("any", temperature, epsilon, new_share * (1 - epsilon))
    rng = np.random.default_rng(seed)
    slate = draw_slate(candidates, np.array(scores), eligible, k, policy, rng, new_items())
    assert len(slate.items) == min(k, NUM_ITEMS) == len(set(slate.items.tolist()))
    assert eligible[slate.items].all()
    assert ((slate.propensities > 0) & (slate.propensities <= 1)).all()


def test_greedy_is_the_top_k_with_certainty():
    candidates, scores, eligible = storefront()
    slate = draw_slate(candidates, scores, eligible, 4, GREEDY, np.random.default_rng(0))
    assert slate.items.tolist() == [3, 1, 6, 2]
    assert slate.propensities.tolist() == [1.0] * 4
    assert not slate.explored.any()


def test_a_slate_longer_than_the_candidates_ends_uniformly():
    candidates, scores, eligible = storefront()
    slate = draw_slate(candidates, scores, eligible, 9, GREEDY, np.random.default_rng(0))
    assert sorted(slate.items.tolist()) == list(range(1, 8))
    assert slate.propensities[5:].tolist() == [0.5, 1.0]
    assert slate.explored.tolist() == [False] * 5 + [True] * 2


def test_low_temperature_keeps_propensities_of_far_slots_exact():
    candidates = np.array([1, 2, 3])
    got = slot_propensities(
        candidates, candidates, np.array([5000.0, 1.0, 0.0]), 3, Policy("cold", temperature=1.0)
    )
    np.testing.assert_allclose(got, [1, np.e / (1 + np.e), 1])


def test_the_same_seed_draws_the_same_slate():
    candidates, scores, eligible = storefront()
    policy = Policy("mixture", 1.0, 0.5)
    first, second = (
        draw_slate(candidates, scores, eligible, 5, policy, np.random.default_rng(7))
        for _ in range(2)
    )
    assert first.items.tolist() == second.items.tolist()


def test_new_items_take_their_share_until_all_are_shown():
    candidates, scores, eligible = storefront()
    policy = Policy("new items alone", new_share=1.0)
    rng = np.random.default_rng(0)
    slate = draw_slate(candidates, scores, eligible, 4, policy, rng, new_items())
    assert set(slate.items[:2].tolist()) == {2, 4}
    assert slate.items[2:].tolist() == [3, 1]
    assert slate.introduced.tolist() == [True, True, False, False]
    assert slate.propensities.tolist() == [0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"temperature": np.nan},
        {"epsilon": 1.5},
        {"new_share": -0.1},
        {"new_share": 0.6, "epsilon": 0.5},
    ],
)
def test_a_policy_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Policy("wrong", **wrong)


def test_hash_shares_are_stable_uniform_and_independent_across_salts():
    users = [f"user-{i}" for i in range(4000)]
    gold = np.array([hash_share(user, "gold") for user in users])
    arm = np.array([hash_share(user, "challenger") for user in users])
    assert hash_share("user-0", "gold") == gold[0]
    assert abs(np.mean(gold < 0.1) - 0.1) < 0.02
    assert abs(np.mean(arm[gold < 0.5] < 0.5) - 0.5) < 0.05
