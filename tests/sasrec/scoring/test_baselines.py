"""Baselines against counts and similarities worked by hand."""

import numpy as np
import pytest
import torch

from sasrec.errors import DataError
from sasrec.scoring import baselines
from sasrec.scoring.baselines import DAY, BigramMarkov, ItemKNN, Popularity, RecentPopularity
from tests.sasrec.small_sequences import packed

NUM_ITEMS = 5


TRAIN = packed([[1, 2, 3], [1, 2, 4], [2, 3]])


@pytest.mark.parametrize("baseline", [Popularity, RecentPopularity, BigramMarkov, ItemKNN])
def test_scores_cover_the_catalogue_and_never_padding(baseline):
    scores = baseline(TRAIN, NUM_ITEMS).logits(packed([[1], [], [5, 4]]))
    assert scores.shape == (3, NUM_ITEMS + 1)
    assert scores.dtype == torch.float32
    assert torch.isneginf(scores[:, 0]).all()
    assert not scores.isnan().any()


def test_popularity_counts_training_events():
    scores = Popularity(TRAIN, NUM_ITEMS).logits(packed([[1], [2, 3]]))
    assert scores[:, 1:].tolist() == [[2, 3, 2, 1, 0]] * 2


def test_recent_popularity_counts_the_last_week_then_all_time():
    train = packed([[1, 1, 1, 2, 3, 3]], [0, 1, 2, 3, 8 * DAY, 8 * DAY + 1])
    order = RecentPopularity(train, NUM_ITEMS).logits(packed([[1]]))[0].argsort(descending=True)
    assert order[:3].tolist() == [3, 1, 2]


def test_recent_popularity_as_of_a_moment_counts_what_was_not_trained_on_and_nothing_later():
    train = packed([[1, 1, 1, 2]], [0, 1, 2, 3])
    now = 20 * DAY
    times = np.array([now - 7 * DAY, now - 1, now - 7 * DAY - 1, now, now + 1])
    events = [(np.array([3, 3, 4, 5, 5]), times)]
    baseline = RecentPopularity.as_of(now, events, train, NUM_ITEMS)
    scores = baseline.logits(packed([[1]]))[0].tolist()
    assert scores[3] == 2
    assert scores[1] > scores[2] > scores[4] == scores[5] == 0


def test_recent_popularity_needs_an_event():
    with pytest.raises(DataError, match="training histories hold no event"):
        RecentPopularity(packed([[]]), NUM_ITEMS)


def test_bigram_probabilities_are_smoothed_towards_popularity():
    scores = BigramMarkov(TRAIN, NUM_ITEMS, smoothing=2.0).logits(packed([[4, 2]]))[0]
    prior = np.array([2, 3, 2, 1, 0]) / 8
    expected = (np.array([0, 0, 2, 1, 0]) + 2 * prior) / (3 + 2)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(scores[1:], np.log(expected), rtol=1e-6)


def test_bigram_without_a_history_is_popularity():
    scores = BigramMarkov(TRAIN, NUM_ITEMS).logits(packed([[]]))[0]
    np.testing.assert_allclose(scores[1:5].exp(), np.array([2, 3, 2, 1]) / 8, rtol=1e-6)


def test_bigram_does_not_join_the_histories_of_two_users():
    """3 → 1 is only the seam between two users, so 3 has no successor."""
    bigram = BigramMarkov(TRAIN, NUM_ITEMS)
    after_three, after_nothing = bigram.logits(packed([[3], []]))
    torch.testing.assert_close(after_three, after_nothing)


def test_item_knn_recommends_what_the_same_users_took():
    knn = ItemKNN(TRAIN, NUM_ITEMS, shrinkage=0.0)
    scores = knn.logits(packed([[1]]))[0]
    assert scores[2] == pytest.approx(2 / np.sqrt(2 * 3), abs=1e-5)
    assert scores[4] == pytest.approx(1 / np.sqrt(2 * 1), abs=1e-5)
    assert scores[1] < 1e-5  # not its own neighbour


def test_item_knn_halves_the_vote_of_older_events_and_forgets():
    knn = ItemKNN(TRAIN, NUM_ITEMS, shrinkage=0.0, session=2)
    alone = knn.logits(packed([[1]]))[0]
    older = knn.logits(packed([[1, 5]]))[0]
    gone = knn.logits(packed([[1, 5, 5]]))[0]
    assert older[2] == pytest.approx(float(alone[2]) / 2, abs=1e-5)
    assert gone[2] < 1e-5


def test_item_knn_keeps_only_the_nearest_neighbours():
    knn = ItemKNN(TRAIN, NUM_ITEMS, neighbours=1, shrinkage=0.0)
    scores = knn.logits(packed([[1]]))[0]
    assert scores[2] > 0.5
    assert scores[3] < 1e-5


def test_fitting_in_parts_gives_what_fitting_at_once_gives(monkeypatch):
    rng = np.random.default_rng(0)
    train = packed([rng.integers(1, 40, rng.integers(0, 30)).tolist() for _ in range(60)])
    asked = train.select(np.arange(5))
    at_once = [baseline(train, 39).logits(asked) for baseline in (BigramMarkov, ItemKNN)]
    monkeypatch.setattr(baselines, "BLOCK_SIMILARITIES", 200)
    monkeypatch.setattr("sasrec.data.packed.BLOCK_EVENTS", 64)
    parts = list(train.parts())
    assert len(parts) > 5
    assert np.array_equal(np.concatenate([part.items for part in parts]), train.items)
    assert np.array_equal(train.counts(39), np.bincount(train.items, minlength=40))
    in_parts = [baseline(train, 39).logits(asked) for baseline in (BigramMarkov, ItemKNN)]
    assert all(torch.allclose(a, b) for a, b in zip(at_once, in_parts, strict=True))
