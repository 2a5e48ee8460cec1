"""Counts against a plain reference; what a fit recovers, and where it keeps its hands off."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.errors import DataError
from sasrec.scoring.decayed_counts import SECOND, CountsInTime, DecayedCounts
from sasrec.scoring.trend import COUNTS, FILE, Trend, Trending
from sasrec.scoring.trend_fit import fit_trend

HOUR = 3600 * SECOND
HALF_LIVES = (3600.0, 86_400.0)
ITEMS = 30


def some_events(rng: np.random.Generator, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(1, ITEMS + 1, n), rng.integers(0, 100 * HOUR, n)


def plainly(items: np.ndarray, times: np.ndarray, moment: int) -> np.ndarray:
    """Counts (J, V + 1) by the definition, event by event."""
    counts = np.zeros((len(HALF_LIVES), ITEMS + 1))
    for item, time in zip(items, times, strict=True):
        if time < moment:
            for row, half_life in enumerate(HALF_LIVES):
                counts[row, item] += 0.5 ** ((moment - time) / SECOND / half_life)
    return counts


def test_counts_as_of_any_moment_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    items, times = some_events(rng)
    parts = [(items[:200], times[:200]), (items[200:], times[200:])]
    in_time = CountsInTime(parts, ITEMS, HALF_LIVES, since=20 * HOUR)
    for asked in ([20, 50, 90], [30, 31], [95, 200], [20]):  # onwards, and back again
        moments = np.array(asked) * HOUR
        for moment, counts in zip(moments, in_time.at(moments), strict=True):
            np.testing.assert_allclose(counts, plainly(items, times, moment), atol=1e-9)


def test_nothing_is_counted_at_or_after_the_moment():
    now = 50 * HOUR
    events = (np.array([1, 2, 3, 4]), np.array([now - 1, now, now + 1, now + HOUR]))
    [counts] = CountsInTime([events], ITEMS, HALF_LIVES, since=HOUR).at(np.array([now]))
    assert set(np.flatnonzero(counts[0])) == {1}
    with pytest.raises(ValueError, match="before the first moment"):
        list(CountsInTime([events], ITEMS, HALF_LIVES, since=now).at(np.array([now - 1])))


def test_a_count_halves_with_its_half_life_and_a_clock_that_goes_back_changes_nothing():
    counts = DecayedCounts(ITEMS, HALF_LIVES, moment=0)
    counts.add(np.array([7, 7, 0]), np.array([0, 0, 0]))
    counts.advance(HOUR)
    counts.advance(0)
    np.testing.assert_allclose(counts.counts[:, 7], [1.0, 2 * 0.5 ** (1 / 24)])
    assert not counts.counts[:, 0].any()  # what is outside the vocabulary is nobody's


def world(users: int, weights: tuple[float, ...], seed: int = 0) -> tuple:
    """Users asked at three moments, whose next items follow a known model and trend."""
    rng = np.random.default_rng(seed)
    # Popularity changes from hour to hour, so that the two half-lives say different things.
    hour, rising = rng.integers(0, 100, 4000), rng.integers(1, ITEMS + 1, 100)
    items = np.where(rng.random(4000) < 0.5, rising[hour], rng.integers(1, ITEMS + 1, 4000))
    counts = CountsInTime([(items, hour * HOUR)], ITEMS, HALF_LIVES, since=40 * HOUR)
    asked_at = np.sort(rng.choice([40, 60, 80], users)) * HOUR
    model = torch.randn((users, ITEMS + 1), generator=torch.Generator().manual_seed(seed))
    model[:, 0] = -torch.inf
    histories = PackedSequences(
        np.full(users, 1), np.arange(users + 1, dtype=np.int32), np.arange(users), asked_at=asked_at
    )
    scorer = Fixed(model)
    ideal = Trending(scorer, Trend(HALF_LIVES, weights), counts).logits(histories)
    ideal[:, 1] = -torch.inf  # seen
    noise = torch.from_numpy(rng.gumbel(size=ideal.shape))
    targets = PackedSequences(
        (ideal + noise).argmax(1).numpy(), histories.cu_seqlens, histories.timestamps + 100 * HOUR
    )
    names = [str(user) for user in range(users)]
    return scorer, EvaluationSet("validation", names, histories, targets), counts


class Fixed:
    """Scores that are looked up by the time of a history's event, which numbers the users."""

    name = "fixed"

    def __init__(self, scores: torch.Tensor) -> None:
        self._scores = scores

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        return self._scores[histories.timestamps].clone()


def test_a_fit_recovers_planted_weights():
    planted = (1.2, -0.7)
    fit = fit_trend(*world(4000, planted), HALF_LIVES)
    np.testing.assert_allclose(fit.trend.weights, planted, atol=0.15)
    assert fit.findings["ndcg@10"]["with"] > fit.findings["ndcg@10"]["without"]


def test_a_model_that_is_too_sure_of_itself_is_weighed_less():
    scorer, validation, counts = world(4000, (1.0, 0.0))
    overconfident = Fixed(3 * scorer._scores)
    fit = fit_trend(overconfident, validation, counts, HALF_LIVES)
    assert fit.findings["beta"] == pytest.approx(1 / 3, abs=0.05)
    np.testing.assert_allclose(fit.trend.weights, (3.0, 0.0), atol=0.4)


@pytest.mark.parametrize("seed", range(4))
def test_weights_are_zero_where_popularity_is_noise(seed):
    fit = fit_trend(*world(400, (0.0, 0.0), seed), HALF_LIVES)
    assert not fit.trend.active or np.abs(fit.trend.weights).max() < 0.1


def test_users_whose_next_item_cannot_be_foretold_say_nothing():
    scorer, validation, counts = world(20, (1.0, 0.0))
    nothing = replace(validation.targets, items=np.zeros(20, dtype=np.int64))
    fit = fit_trend(scorer, replace(validation, targets=nothing), counts, HALF_LIVES)
    assert fit.trend.weights == (0.0, 0.0)


def test_a_trend_comes_back_with_its_counts(tmp_path):
    rng = np.random.default_rng(0)
    trend, counts = Trend(HALF_LIVES, (0.5, -0.25)), DecayedCounts(ITEMS, HALF_LIVES, 100 * HOUR)
    counts.add(*some_events(rng))
    trend.save(tmp_path, counts)
    assert Trend.load(tmp_path) == trend
    again = trend.load_counts(tmp_path, ITEMS)
    assert again.moment == counts.moment
    np.testing.assert_allclose(again.counts, counts.counts, rtol=1e-6)


def test_damaged_files_are_named(tmp_path):
    assert Trend.load(tmp_path) is None  # a model of before there were trends
    trend = Trend(HALF_LIVES, (0.5, -0.25))
    trend.save(tmp_path, DecayedCounts(ITEMS, HALF_LIVES, 0))
    with pytest.raises(DataError, match=f"{COUNTS}: holds counts of shape"):
        trend.load_counts(tmp_path, ITEMS + 1)
    (tmp_path / FILE).write_text('{"half_lives": [1], "weights": []}')
    with pytest.raises(DataError, match=f"{FILE}: half-lives and weights"):
        Trend.load(tmp_path)
    (tmp_path / COUNTS).write_bytes(b"no")
    with pytest.raises(DataError, match=f"{COUNTS}: not the counts"):
        trend.load_counts(tmp_path, ITEMS)
