"""Half precision finds the list that single precision has: always, not nearly always."""

import numpy as np
import pytest
import torch

from serving.engine.half import LARGEST, LEAST_ITEMS, HalfMatrix
from serving.engine.ranking import BoundedRanking, ExactRanking, score, top_candidates

ITEMS, DIM = 30_000, 16


def matrix_of(kind: str) -> torch.Tensor:
    torch.manual_seed(0)
    matrix = torch.randn(ITEMS + 1, DIM)
    if kind == "nearly alike":  # scores that half precision cannot tell apart
        matrix = torch.randn(1, DIM) + 1e-4 * matrix
    if kind == "tiny":  # below what half precision has all its bits for
        matrix = 1e-6 * matrix
    if kind == "twins":
        matrix[ITEMS // 2 :] = matrix[: ITEMS - ITEMS // 2 + 1].clone()
    return matrix


@pytest.mark.parametrize("kind", ["random", "nearly alike", "tiny", "twins"])
@pytest.mark.parametrize("with_bonus", [False, True])
def test_the_list_is_that_of_exact_scores(kind, with_bonus):
    matrix = matrix_of(kind)
    half = HalfMatrix(matrix)
    bonus = np.random.default_rng(0).random(ITEMS + 1).astype(np.float32) if with_bonus else None
    eligible = np.random.default_rng(1).random(ITEMS + 1) < 0.7
    hidden = torch.randn(5, DIM)
    approximate, bounds = half.score(hidden)
    if bonus is not None:
        approximate += bonus
    for row, state in enumerate(hidden):
        exact = matrix.double().numpy() @ state.double().numpy()
        if bonus is not None:
            exact = exact + bonus
        assert np.abs(approximate[row] - exact).max() <= bounds[row] + 1e-6
        ranking = BoundedRanking(approximate[row], float(bounds[row]), state, matrix, bonus)
        for n in (1, 10, 200):
            found = ranking.best(eligible, n)
            assert len(found) == n
            assert eligible[found].all()
            assert (np.diff(ranking.scores(found)) <= 0).all()
            best = np.sort(exact[eligible])[-n:][::-1]
            np.testing.assert_allclose(exact[found], best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", ["normal", "few values", "almost nothing", "all equal"])
@pytest.mark.parametrize("n", [1, 7, 200, 50_000])
def test_the_best_are_those_of_a_full_sort(shape, n):
    rng = np.random.default_rng(2)
    scores = rng.normal(size=ITEMS + 1).astype(np.float32)
    if shape == "few values":
        scores = np.round(scores)
    if shape == "almost nothing":
        scores[rng.random(len(scores)) < 0.999] = -np.inf
    if shape == "all equal":
        scores[:] = 1
    scores[0] = -np.inf
    eligible = rng.random(len(scores)) < 0.9
    shown = np.flatnonzero(eligible & (scores > -np.inf))
    expected = shown[np.lexsort((shown, -scores[shown]))][:n]
    assert top_candidates(scores, eligible, n).tolist() == expected.tolist()


def test_scores_above_a_threshold_may_all_be_ineligible():
    scores = np.arange(ITEMS + 1, dtype=np.float32)
    eligible = scores < 100
    assert top_candidates(scores, eligible, 3).tolist() == [99, 98, 97]


def test_small_catalogues_and_numbers_out_of_range_stay_as_they_are():
    assert HalfMatrix.of(torch.zeros(LEAST_ITEMS, 8)) is None
    large = torch.zeros(LEAST_ITEMS + 1, 8)
    assert HalfMatrix.of(large) is not None
    large[5, 3] = 2 * LARGEST
    assert HalfMatrix.of(large) is None


def test_exact_and_bounded_scores_are_the_same_numbers():
    matrix, state = matrix_of("random"), torch.randn(DIM)
    approximate, bounds = HalfMatrix(matrix).score(state[None])
    bounded = BoundedRanking(approximate[0], float(bounds[0]), state, matrix, None)
    items = np.arange(50, 90)
    exact = ExactRanking(score(matrix, state)).scores(items)
    np.testing.assert_allclose(bounded.scores(items), exact, rtol=1e-5, atol=1e-5)
