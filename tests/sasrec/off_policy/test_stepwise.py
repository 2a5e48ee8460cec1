"""Lists whose rules look at the slots above: drawn as often as their propensities say."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from sasrec.off_policy.policy import GREEDY, UNIFORM, Policy, slot_propensities
from sasrec.off_policy.stepwise import draw_stepwise
from tests.sasrec.off_policy.test_policy import NUM_ITEMS, new_items, storefront

MIXTURE = Policy("all three", temperature=0.7, epsilon=0.2, new_share=0.3)


class OnePerParity:
    """At most one even and one odd item."""

    def take(self, item):
        same = np.arange(NUM_ITEMS + 1) % 2 == item % 2
        same[0] = False
        return same


class FarApart:
    """Likes what is far from the items above."""

    def __init__(self, candidates, scores):
        self.candidates, self.scores = candidates, scores.copy()

    def take(self, item):
        self.scores = self.scores - 1.5 / (1 + abs(self.candidates - item))
        return self.scores


def draw(rng, policy, *, k=3, placed=(), limits=False, apart=False, excluded=(5,)):
    candidates, scores, eligible = storefront(excluded)
    return draw_stepwise(
        candidates,
        scores,
        eligible,
        k,
        policy,
        rng,
        new_items(excluded),
        placed=dict(placed),
        limits=OnePerParity() if limits else None,
        reranking=FarApart(candidates, scores) if apart else None,
    )


@pytest.mark.parametrize(
    "policy",
    [MIXTURE, Policy("epsilon-greedy", epsilon=0.5), Policy("pl", temperature=0.7), UNIFORM],
    ids=lambda policy: policy.name,
)
@pytest.mark.parametrize(
    "rules",
    [{"limits": True, "k": 2}, {"apart": True}, {"placed": [(1, 7)], "apart": True}],
    ids=["limits", "reranking", "placed"],
)
def test_drawn_frequencies_match_the_propensities(policy, rules):
    """Of whole lists: the product of the slots' propensities is how often a list is drawn."""
    rng = np.random.default_rng(0)
    draws = 4_000
    count: Counter[tuple[int, ...]] = Counter()
    probability: dict[tuple[int, ...], float] = {}
    for _ in range(draws):
        slate = draw(rng, policy, **rules)
        items = tuple(slate.items.tolist())
        count[items] += 1
        product = float(slate.propensities.prod())
        assert probability.setdefault(items, product) == pytest.approx(product)
    often = [items for items in count if probability[items] * draws >= 5]
    observed = np.array([count[items] for items in often], dtype=float)
    expected = np.array([probability[items] for items in often])
    observed = np.append(observed, draws - observed.sum())
    expected = np.append(expected, max(1 - expected.sum(), 0.0))
    some = expected * draws > 1e-6
    assert observed[~some].sum() == 0
    assert chisquare(observed[some], expected[some] * draws).pvalue > 1e-4


@pytest.mark.parametrize("policy", [MIXTURE, GREEDY, UNIFORM], ids=lambda policy: policy.name)
def test_without_a_rule_propensities_are_those_of_a_plain_slate(policy):
    rng = np.random.default_rng(1)
    candidates, scores, eligible = storefront((5,))
    for _ in range(50):
        slate = draw(rng, policy, k=7)
        plain = slot_propensities(
            slate.items, candidates, scores, int(eligible.sum()), policy, new_items((5,))
        )
        np.testing.assert_allclose(slate.propensities, plain)
        assert slate.remaining.tolist() == [6, 5, 4, 3, 2, 1]
        assert not slate.placed.any()


def test_a_limit_that_nothing_meets_ends_the_list_and_what_is_placed_moves_up():
    rng = np.random.default_rng(2)
    assert len(draw(rng, GREEDY, k=5, limits=True).items) == 2
    slate = draw(rng, GREEDY, k=5, limits=True, placed=[(4, 7)])
    assert slate.items.tolist() == [6, 7]  # one even item is left, and the odd one is placed
    assert slate.placed.tolist() == [False, True]
    assert slate.propensities.tolist() == [1.0, 1.0]


def test_what_is_placed_is_drawn_by_nobody():
    rng = np.random.default_rng(3)
    for _ in range(50):
        slate = draw(rng, MIXTURE, k=6, placed=[(0, 6), (2, 5)])
        assert slate.items[[0, 2]].tolist() == [6, 5]  # 5 may not be drawn: a rule does not ask
        assert len(set(slate.items.tolist())) == 6
        assert slate.propensities[[0, 2]].tolist() == [1.0, 1.0]
        assert slate.remaining.tolist() == [5, 5, 4, 4, 3, 2]
