"""A run's trend: fitted without the future, judged without the future, shipped as of now."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from components.support import run_trend
from sasrec.data.cleaning import clean
from sasrec.data.current import CurrentHistories
from sasrec.data.dataset import SequenceDataset
from sasrec.data.frame_histories import histories_before
from sasrec.data.simulated import Storefront
from sasrec.data.splits import global_time
from sasrec.data.vocabulary import Vocabulary
from sasrec.off_policy.replay import histories_before as before_requests
from sasrec.scoring.baselines import BigramMarkov
from sasrec.scoring.trend import Trend
from sasrec.scoring.trend_config import TrendConfig

CONFIG = TrendConfig(half_lives=(1, 7))
TREND = Trend(CONFIG.seconds, (1.0, -0.5))


@pytest.fixture(scope="module")
def interactions():
    source, _ = clean(Storefront(seed=3, users=150, days=20).source())
    return source.interactions


@pytest.fixture(scope="module")
def dataset(interactions):
    cut = global_time(interactions)
    return SequenceDataset.from_histories(cut, histories_before(interactions, cut.cutoffs))


@pytest.fixture(scope="module")
def model(dataset):
    return BigramMarkov(dataset.train, len(dataset.vocabulary))


def events_of(interactions, dataset, moved=lambda items, times: (items, times)):
    """All events, perhaps changed on the way."""
    items = dataset.vocabulary.encode(interactions["item_id"])
    times = interactions["timestamp"].cast("int64").to_numpy()
    return lambda: [moved(items, times)]


def test_what_happens_from_the_moment_on_changes_no_score(interactions, dataset, model):
    """Everybody meets item 1 from the test cut on, and no test user's score knows it."""
    cut = int(dataset.test.histories.moments[0])

    def crowd(items, times):
        return np.where(times >= cut, 1, items), times

    scores = [
        run_trend.AsEvaluated(dataset, events_of(interactions, dataset, moved))(model, TREND)
        .logits(dataset.test.histories)
        .numpy()
        for moved in (lambda *events: events, crowd)
    ]
    np.testing.assert_array_equal(*scores)
    assert not np.array_equal(scores[0], model.logits(dataset.test.histories).numpy())


def test_a_logged_list_is_replayed_with_the_counts_of_its_own_moment(interactions, dataset, model):
    """The list's moment is in time, not at the cut: what came just before it counts."""
    cut = int(dataset.test.histories.moments[0])
    users = np.array(dataset.test.user_ids[:3])
    asked_at = cut + np.array([1, 2, 3]) * 3_600_000_000
    histories = before_requests(interactions, users, asked_at, dataset.vocabulary)
    crowd = (np.full(50, 7), np.full(50, asked_at[1] - 1))
    events = lambda: [*events_of(interactions, dataset)(), crowd]  # noqa: E731
    plain, crowded = (
        run_trend.AsEvaluated(dataset, given)(model, TREND).logits(histories).numpy()
        for given in (events_of(interactions, dataset), events)
    )
    gain = crowded[:, 7] - plain[:, 7]
    assert gain[0] == 0
    assert (gain[1:] > 0.5).all()


def test_a_fit_knows_nothing_from_the_training_cut_on(dataset, model):
    fitted, _ = run_trend.fit(model, dataset, CONFIG)
    none_later = replace(dataset, test=dataset.validation)
    assert run_trend.fit(model, none_later, CONFIG)[0] == fitted
    assert dataset.train.timestamps.max() < run_trend.training_cut(dataset)


def test_without_a_moment_or_when_it_is_off_there_is_no_trend(dataset, model):
    off = TrendConfig(enabled=False)
    assert run_trend.fit(model, dataset, off) == (None, {"missing": "trend.enabled is false"})
    no_cut = replace(dataset, description=dataset.description | {"t1": None})
    trend, found = run_trend.fit(model, no_cut, CONFIG)
    assert trend is None
    assert "without a cut in time" in found["missing"]
    assert run_trend.AsEvaluated(no_cut, list)(model, TREND) is model


def test_what_ships_counts_everything_until_now_in_its_own_vocabulary(
    interactions, dataset, tmp_path
):
    newest = interactions["timestamp"].cast("int64").to_numpy().max()
    users = interactions["user_id"].unique()
    cutoffs = pa.table({"user_id": users, "cutoff": pa.array([newest + 1] * len(users))})
    answered = histories_before(interactions, cutoffs).append_column("user_id", users)
    items = sorted(set(interactions["item_id"].to_pylist()))
    as_of = datetime(2100, 1, 1, tzinfo=UTC)  # of the publish; nothing happened since the newest
    CurrentHistories.write(tmp_path / "now", as_of, items, [answered])
    now = CurrentHistories.load(tmp_path / "now")

    few = Vocabulary([*items[:5], "never met"])
    run_trend.save_as_of_now(TREND, now, few, tmp_path)
    counts = TREND.load_counts(tmp_path, len(few))
    assert counts.moment == newest + 1
    ids, times = interactions["item_id"].to_pylist(), interactions["timestamp"].cast("int64")
    age = (newest + 1 - times.to_numpy()) / 1_000_000
    for row, half_life in enumerate(TREND.half_lives):
        expected = np.zeros(len(few) + 1)
        np.add.at(expected, few.encode(ids), 0.5 ** (age / half_life))
        expected[0] = 0
        np.testing.assert_allclose(counts.counts[row], expected, rtol=1e-5)
