"""What a crowd does moves lists of strangers, on every worker, and fades with its half-life."""

import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from feature_repo.history import SQLiteHistory, StoredEvent
from sasrec.data.roles import Roles
from sasrec.off_policy.policy import GREEDY
from sasrec.scoring.decayed_counts import SECOND, DecayedCounts
from sasrec.scoring.trend import Trend
from serving.api.app import create_app
from serving.engine import golden
from serving.engine.engine import Engine
from serving.engine.index import Index
from serving.engine.ranking import IndexRanking
from serving.engine.recommendation import recommend
from serving.engine.request_history import History
from serving.registry import ModelStore
from serving.schemas import RecommendRequest
from serving.worker.trend_follower import TrendFollower
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, save_model

HOUR = 3600 * SECOND
MOMENT = 400_000 * HOUR
"""Of the model: what was before is in its counts."""
TREND = Trend(half_lives=(3600.0, 86_400.0), weights=(12.0, 2.0))
HISTORY = History(ITEM_IDS[5:8], [1, 2, 3])


class Clock:
    """Microseconds, moved by hand."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def model_dir(tmp_path):
    """A model in whose counts item-1 is what everybody met."""
    directory = save_model(tmp_path / "model", seed=1)
    counts = DecayedCounts(NUM_ITEMS, TREND.half_lives, MOMENT)
    counts.add(np.full(20, 2), np.full(20, MOMENT - HOUR))
    TREND.save(directory, counts)
    return directory


@pytest.fixture
def store(tmp_path):
    store = SQLiteHistory(tmp_path / "history.db")
    yield store
    store.close()


def crowd(store, item, at, users=50, kind="click"):
    store.append_many(
        (f"user-{n}", StoredEvent(f"{item}-{kind}-{at}-{n}", item, kind, at)) for n in range(users)
    )


def place(engine, item, history=HISTORY):
    """Where an item is in a stranger's list."""
    request = RecommendRequest.model_validate({"k": NUM_ITEMS})
    return recommend(engine, request, history, GREEDY, candidates=100).item_ids.index(item)


def last_of(engine):
    request = RecommendRequest.model_validate({"k": NUM_ITEMS})
    return recommend(engine, request, HISTORY, GREEDY, candidates=100).item_ids[-1]


def test_a_burst_moves_an_item_up_for_strangers_and_down_again(model_dir, store):
    """Two workers follow one store; the counts are those of the definition."""
    clock = Clock(MOMENT)
    engines = [Engine(model_dir), Engine(model_dir)]
    workers = [TrendFollower(store, lambda e=engine: [e], clock=clock) for engine in engines]
    item = last_of(engines[0])
    crowd(store, item, at=MOMENT + HOUR)
    clock.now = MOMENT + HOUR
    for worker, engine in zip(workers, engines, strict=True):
        worker.look()
        assert place(engine, item) == 0
        assert place(engine, item, History.empty()) == 0  # and for who has no history at all
    clock.now = MOMENT + 3 * HOUR
    workers[0].look()
    expected = DecayedCounts(NUM_ITEMS, TREND.half_lives, clock.now)
    expected.add(np.full(20, 2), np.full(20, MOMENT - HOUR))
    expected.add(np.full(50, ITEM_IDS.index(item) + 1), np.full(50, MOMENT + HOUR))
    np.testing.assert_allclose(
        engines[0].trend.now.bonus, TREND.bonus(expected.counts), rtol=1e-5, atol=1e-6
    )
    clock.now = MOMENT + 500 * HOUR
    workers[0].look()
    assert place(engines[0], item) == NUM_ITEMS - 1 - len(HISTORY.item_ids)


def test_events_count_once_however_often_a_worker_looks_or_starts(model_dir, store):
    clock = Clock(MOMENT + HOUR)
    crowd(store, "item-9", at=MOMENT - HOUR)  # in the model's counts already
    crowd(store, "item-30", at=MOMENT + HOUR)
    crowd(store, "not in the vocabulary", at=MOMENT + HOUR)
    crowd(store, "item-31", at=MOMENT + HOUR, kind="dislike")
    engine = Engine(model_dir)
    engine.roles = Roles.parse({"dislike": "negative"})
    follower = TrendFollower(store, lambda: [engine], clock=clock)
    before = engine.trend.now.bonus.copy()
    for _ in range(3):
        follower.look()
    changed = np.flatnonzero(engine.trend.now.bonus > before)
    assert changed.tolist() == [31]
    again = Engine(model_dir)  # a worker that starts after a crash
    again.roles = engine.roles
    TrendFollower(store, lambda: [again], clock=clock).look()
    np.testing.assert_array_equal(again.trend.now.bonus, engine.trend.now.bonus)


def test_a_history_that_was_lost_and_built_again_counts_nothing_twice(model_dir, store):
    clock = Clock(MOMENT + HOUR)
    engine = Engine(model_dir)
    follower = TrendFollower(store, lambda: [engine], clock=clock)
    crowd(store, "item-30", at=MOMENT + HOUR)
    follower.look()
    before = engine.trend.now.bonus.copy()
    store.clear()
    crowd(store, "item-30", at=MOMENT + HOUR)
    follower.look()
    np.testing.assert_array_equal(engine.trend.now.bonus, before)


def test_a_time_that_is_yet_to_come_counts_as_now(model_dir, tmp_path):
    store, clock = SQLiteHistory(tmp_path / "history.db"), Clock(MOMENT + HOUR)
    engines = [Engine(model_dir), Engine(model_dir)]
    crowd(store, "item-30", at=MOMENT + 10_000 * HOUR)
    TrendFollower(store, lambda: [engines[0]], clock=clock).look()
    assert np.isfinite(engines[0].trend.now.bonus).all()
    assert engines[0].trend.now.bonus[31] == pytest.approx(TREND.bonus(np.full((2, 1), 50.0))[0])


def test_golden_requests_are_those_of_the_stored_counts(model_dir, tmp_path):
    """Offline scores and the trend's bonus, whatever the clock says when they are replayed."""
    store = ModelStore(tmp_path / "models")
    recorded = golden.record(model_dir, [ITEM_IDS[:3], []], [[1, 2, 3], []])
    version = store.register(model_dir, metadata={}, golden=recorded)
    assert recorded[1]["expected"]["items"][0] == "item-1"
    engine = Engine(store.path(version))
    assert golden.replay(engine, store.path(version)) == 2
    crowd_of = SQLiteHistory(tmp_path / "history.db")
    crowd(crowd_of, "item-30", at=MOMENT + HOUR)
    TrendFollower(crowd_of, lambda: [engine], clock=Clock(MOMENT + HOUR)).look()
    with pytest.raises(Exception, match="is off by"):
        golden.replay(engine, store.path(version))


def test_a_model_of_before_there_were_trends_serves_as_it_did(tmp_path):
    engine = Engine(save_model(tmp_path / "model", seed=1))
    assert engine.trend is None
    TrendFollower(SQLiteHistory(tmp_path / "history.db"), lambda: [engine]).look()
    assert place(engine, "item-0", History.empty()) == 0  # the popularity of its training


def test_what_trends_is_found_beside_what_the_index_finds(model_dir, monkeypatch):
    """The index knows the model alone, and finds nothing of use here."""
    monkeypatch.setattr(Index, "search", lambda self, hidden, n: np.arange(1, 31))
    engine = Engine(model_dir)
    index = object.__new__(Index)
    [hidden] = engine._encode([engine._window(HISTORY.item_ids, HISTORY.timestamps)])
    exact = engine.scores(HISTORY.item_ids, HISTORY.timestamps)
    eligible = np.ones(NUM_ITEMS + 1, dtype=bool)
    eligible[0] = False
    ranking = IndexRanking(hidden, engine._encoder.matrix, index, engine.trend.now)
    assert ranking.best(eligible, 5).tolist() == np.argsort(-exact)[:5].tolist()
    np.testing.assert_allclose(ranking.scores(np.arange(1, 5)), exact[1:5], rtol=1e-5)


def test_an_event_at_one_worker_moves_the_lists_of_another(model_dir, settings, monkeypatch):
    """Over the API, by the clock of the machine: two applications of one site."""
    monkeypatch.setattr("serving.worker.trend_follower.POLL_SECONDS", 0.02)
    store = ModelStore(settings.home / "models")
    store.promote(store.register(model_dir, metadata={}), why="test")
    key = {"Authorization": "Bearer key-a"}
    with (
        TestClient(create_app(settings), headers=key) as here,
        TestClient(create_app(settings), headers=key) as there,
    ):

        def first(stranger):
            answer = there.post("/v1/recommend", json={"user_id": stranger, "k": 1}).json()
            return answer["items"][0]["item_id"]

        assert first("before") != "item-40"
        events = [
            {"event_id": f"e{n}", "user_id": f"crowd-{n}", "item_id": "item-40"} for n in range(30)
        ]
        assert here.post("/v1/events", json={"events": events}).status_code == 202
        deadline = time.monotonic() + 20
        while first("after") != "item-40" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first("after") == "item-40"
        known = there.post("/v1/recommend", json={"recent_items": ["item-3"], "k": 1}).json()
        assert known["items"][0]["item_id"] == "item-40"
        assert known["items"][0]["propensity"] == 1.0
