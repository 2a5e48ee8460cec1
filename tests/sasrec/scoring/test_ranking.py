"""Ranks and top-k lists: exact, tie-safe, and independent of how users are blocked."""

import numpy as np
import pytest
import torch

from sasrec.data.vocabulary import PADDING
from sasrec.errors import DataError
from sasrec.scoring.ranking import next_item, target_ranks, top_k
from tests.sasrec.small_sequences import Lookup, evaluation_set, packed

ITEMS = 40


@pytest.fixture
def random_evaluation():
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, ITEMS + 1, rng.integers(1, 8)) for _ in range(200)]
    targets = [rng.integers(0, ITEMS + 1, rng.integers(1, 5)) for _ in range(200)]
    return evaluation_set(histories, targets)


@pytest.fixture(params=["distinct", "tied"])
def scorer(request):
    rng = np.random.default_rng(1)
    table = rng.normal(size=(ITEMS + 1, ITEMS + 1))
    return Lookup(table if request.param == "distinct" else np.round(table))


@pytest.mark.parametrize("filter_seen", [True, False])
def test_ranks_agree_with_a_full_sort(random_evaluation, scorer, filter_seen):
    ranks = target_ranks(scorer, random_evaluation, filter_seen=filter_seen)
    items, _ = top_k(scorer, random_evaluation.histories, ITEMS, filter_seen)
    expected = []
    for row, targets in enumerate(random_evaluation.targets):
        for target in targets:
            place = np.flatnonzero((items[row] == target) & (target != PADDING))
            expected.append(place[0] + 1 if len(place) else np.inf)
    np.testing.assert_array_equal(ranks, expected)


def test_top_k_is_sorted_by_score_and_leaves_out_what_was_seen(random_evaluation, scorer):
    items, scores = top_k(scorer, random_evaluation.histories, ITEMS)
    assert (np.diff(scores[:, :20]) <= 0).all()
    for history, row, row_scores in zip(random_evaluation.histories, items, scores, strict=True):
        kept = row[row != PADDING]
        assert sorted(kept) == sorted(set(range(1, ITEMS + 1)) - set(history))
        assert np.isneginf(row_scores[len(kept) :]).all()
        np.testing.assert_array_equal(
            row_scores[: len(kept)], scorer.table[history[-1]].numpy()[kept]
        )


@pytest.mark.parametrize("users_per_block", [1, 7, 1000])
def test_blocks_do_not_change_ranks_or_lists(random_evaluation, scorer, users_per_block):
    np.testing.assert_array_equal(
        target_ranks(scorer, random_evaluation),
        target_ranks(scorer, random_evaluation, users_per_block=users_per_block),
    )
    histories = random_evaluation.histories
    np.testing.assert_array_equal(
        top_k(scorer, histories, 5)[0],
        top_k(scorer, histories, 5, users_per_block=users_per_block)[0],
    )


@pytest.mark.parametrize("target", [1, ITEMS // 2, ITEMS])
def test_a_constant_scorer_gets_what_chance_gets(target):
    """Even when every user wants the same item: P(rank <= k) = k / V, four standard errors."""
    users = 20_000
    rng = np.random.default_rng(2)
    evaluation = evaluation_set(rng.integers(1, ITEMS + 1, (users, 6)).tolist(), [[target]] * users)
    constant = Lookup(np.zeros((ITEMS + 1, ITEMS + 1)))
    ranks = target_ranks(constant, evaluation, filter_seen=False)
    for k in (1, 10, 20):
        chance = k / ITEMS
        tolerance = 4 * np.sqrt(chance * (1 - chance) / users)
        assert abs((ranks <= k).mean() - chance) < tolerance


def test_misses_are_seen_unknown_and_unscored_targets():
    table = np.zeros((ITEMS + 1, ITEMS + 1))
    table[:, 4] = -np.inf
    evaluation = evaluation_set([[3]], [[3, PADDING, 4, 5]])
    missed = np.isinf(target_ranks(Lookup(table), evaluation))
    assert missed.tolist() == [True, True, True, False]
    assert np.isfinite(target_ranks(Lookup(table), evaluation, filter_seen=False)[0])


def test_scores_of_the_scorer_are_left_as_they_were():
    shared = torch.zeros(2, ITEMS + 1)

    class Cached:
        name = "cached"

        def logits(self, histories):
            return shared

    top_k(Cached(), packed([[1, 2], [3]]), 3)
    assert torch.equal(shared, torch.zeros(2, ITEMS + 1))


def test_nan_scores_are_refused_by_row():
    table = np.zeros((ITEMS + 1, ITEMS + 1))
    table[7, 3] = np.nan
    evaluation = evaluation_set([[1], [7]], [[2], [2]])
    with pytest.raises(DataError, match="scorer 'lookup': score is NaN for the history at row 1"):
        target_ranks(Lookup(table), evaluation)


def test_next_item_keeps_the_first_target():
    evaluation = next_item(evaluation_set([[1], [2]], [[3, 4], [5]]))
    assert evaluation.targets.items.tolist() == [3, 5]
    assert evaluation.targets.cu_seqlens.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="user 'u1' has no target"):
        next_item(evaluation_set([[1], [2]], [[3, 4], []]))
