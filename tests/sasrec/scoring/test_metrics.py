"""Metrics against an independent implementation (trec_eval) and against hand-worked lists."""

import math

import numpy as np
import pytest

from benchmarks.evaluation.agreement import CUTOFFS, TOLERANCE, Case
from sasrec.data.vocabulary import PADDING
from sasrec.scoring import metrics
from tests.sasrec.small_sequences import packed


def test_accuracy_of_a_hand_worked_user():
    """Relevant items at ranks 2, 5 and beyond reach: R = 3."""
    got = metrics.accuracy(np.array([5.0, 2.0, np.inf]), np.array([0, 3]), k=5)
    dcg = 1 / math.log2(3) + 1 / math.log2(6)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert got["hr@5"] == 1
    assert got["recall@5"] == pytest.approx(2 / 3)
    assert got["ndcg@5"] == pytest.approx(dcg / ideal)
    assert got["mrr@5"] == pytest.approx(1 / 2)
    assert got["map@5"] == pytest.approx((1 / 2 + 2 / 5) / 3)


def test_accuracy_with_one_relevant_item_is_the_next_item_protocol():
    ranks = np.array([1.0, 3.0, 11.0, np.inf])
    got = metrics.accuracy(ranks, np.arange(5), k=10)
    assert got["hr@10"].tolist() == [1, 1, 0, 0]
    assert got["ndcg@10"].tolist() == [1, 0.5, 0, 0]
    np.testing.assert_array_equal(got["mrr@10"], got["map@10"])


@pytest.mark.parametrize("tied", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("k", CUTOFFS)
def test_accuracy_equals_trec_eval_from_scores_to_figures(k, tied):
    """RecTools and ranx need an environment of their own: `benchmarks.evaluation` asks them."""
    case = Case(tied, k)
    for name, theirs in case.by_trec_eval().items():
        np.testing.assert_allclose(case.ours[f"{name}@{k}"], theirs, atol=TOLERANCE)


def test_distinct_targets_keeps_the_first_of_each_and_every_unknown():
    distinct = metrics.distinct_targets(packed([[3, 5, 3], [PADDING, PADDING, 5], [5]]))
    assert [items.tolist() for items in distinct] == [[3, 5], [PADDING, PADDING, 5], [5]]
    assert distinct.timestamps.tolist() == [0, 1, 3, 4, 5, 6]


def test_inverse_popularity_weights_have_mean_one():
    weights = metrics.inverse_popularity_weights(
        np.array([0, 100, 10, 1]), np.array([1, 2, 3, PADDING])
    )
    assert weights[2] / weights[1] == pytest.approx(10)
    assert weights[1] / weights[0] == pytest.approx(10)
    assert weights[3] == 0
    assert weights.mean() == pytest.approx(1)


def test_coverage_and_gini_at_their_extremes():
    equal = np.arange(1, 21).reshape(4, 5)
    concentrated = np.full((100, 1), 7)
    assert metrics.coverage(equal, 20) == 1
    assert metrics.gini(equal, 20) == pytest.approx(0)
    assert metrics.coverage(concentrated, 20) == 1 / 20
    assert metrics.gini(concentrated, 20) == pytest.approx(1 - 1 / 20)


def test_gini_is_the_mean_absolute_difference():
    lists = np.array([[1, 2], [1, 3], [1, 2], [4, PADDING]])
    exposure = np.array([3, 2, 1, 1, 0])
    pairs = np.abs(exposure[:, None] - exposure).mean()
    assert metrics.gini(lists, 5) == pytest.approx(pairs / (2 * exposure.mean()))


def test_exposure_curve_rises_from_nothing_to_everything():
    curve = metrics.exposure_curve(np.array([[1, 1], [1, 2]]), 2, points=3)
    np.testing.assert_allclose(curve, [0, 0.75, 1])


def test_novelty_is_self_information_in_bits():
    popularity = np.array([0, 3, 3, 0, 6])  # + 1 each: 4, 4, 1, 7 of 16
    novelty = metrics.novelty(np.array([[1, 2], [3, PADDING]]), popularity)
    np.testing.assert_allclose(novelty, [2, 4])


def test_popularity_lift_compares_with_the_users_own_history():
    popularity = np.array([0, 10, 30])
    lift = metrics.popularity_lift(np.array([[2, 2], [2, 2]]), packed([[1, 1], []]), popularity)
    assert lift[0] == pytest.approx(2)
    assert np.isnan(lift[1])


def test_diversity_counts_pairs_of_known_categories():
    categories = np.array([-1, 0, 0, 1, -1])
    diversity = metrics.intra_list_diversity(np.array([[1, 2, 3], [1, 4, PADDING]]), categories)
    assert diversity[0] == pytest.approx(2 / 3)
    assert np.isnan(diversity[1])


def test_serendipity_is_relevant_and_not_popular():
    lists = np.array([[1, 2, 3, PADDING], [4, 5, 6, 7]])
    popular = np.array([[1, 9, 8, 7], [9, 8, 5, 6]])
    targets = packed([[1, 2, PADDING], [4, 5]])
    np.testing.assert_allclose(metrics.serendipity(lists, popular, targets), [1 / 4, 1 / 4])
