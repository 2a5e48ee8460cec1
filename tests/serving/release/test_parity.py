"""The serving path and the offline model agree on stored users, and it shows when they do not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from feature_repo.history import StoredEvent, open_history
from feature_repo.publish import publish
from sasrec.data.roles import Roles
from sasrec.data.schema import INTERACTIONS
from sasrec.scoring.decayed_counts import DecayedCounts
from sasrec.scoring.trend import Trend
from serving.engine.request_history import by_role
from serving.release.parity import serving_parity
from serving.settings import Settings
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, save_model

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)
USERS = [f"user-{n}" for n in range(12)]


@pytest.fixture
def settings(tmp_path):
    """A site whose users did 30 things each, one of them with an item that no model knows."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "user_id": user,
            "item_id": "a new item" if n == 20 else str(rng.choice(ITEM_IDS)),
            "timestamp": AS_OF - timedelta(minutes=1000 - 30 * n),
            "event_type": "click",
            "value": None,
            "sequence": n,
        }
        for user in USERS
        for n in range(30)
    ]
    rows.append(rows[-1] | {"user_id": "stranger", "item_id": "a new item"})
    settings = Settings(home=tmp_path / "site", epsilon=0.5, gold_share=1.0, history_length=25)
    publish(
        settings.feature_store,
        interactions=pa.Table.from_pylist(rows, schema=INTERACTIONS),
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=AS_OF,
    )
    return settings


@pytest.fixture
def model_dir(tmp_path):
    return save_model(tmp_path / "model", seed=1)


def test_stored_users_get_what_the_model_gives_offline(settings, model_dir):
    for repeats in (False, True):
        got = serving_parity(model_dir, settings, [*USERS, "stranger"], repeats=repeats)
        assert got == {"agreement": 1.0, "users": len(USERS), "differing": []}


def test_a_trend_is_part_of_both_answers(settings, model_dir):
    trend = Trend((3600.0, 86_400.0), (8.0, -2.0))
    counts = DecayedCounts(NUM_ITEMS, trend.half_lives, 0)
    counts.add(np.arange(1, 30), np.zeros(29, dtype=np.int64))
    trend.save(model_dir, counts)
    got = serving_parity(model_dir, settings, USERS)
    assert got == {"agreement": 1.0, "users": len(USERS), "differing": []}


def test_a_history_longer_than_what_is_encoded_is_excluded_as_a_whole(
    settings, model_dir, monkeypatch
):
    def forgetful(*arguments):
        return replace(by_role(*arguments), older=[])

    monkeypatch.setattr("serving.release.parity.by_role", forgetful)
    assert serving_parity(model_dir, settings, USERS)["agreement"] < 1


def test_what_happened_after_the_publish_is_no_difference(settings, model_dir):
    now = int(AS_OF.timestamp() * 1e6) + 1
    open_history(settings.history_location).append(
        "user-3", StoredEvent("e", "item-1", "click", now)
    )
    assert serving_parity(model_dir, settings, USERS)["agreement"] == 1


def test_an_event_that_only_serving_reads_is_found(settings, model_dir):
    before = int(AS_OF.timestamp() * 1e6) - 1
    open_history(settings.history_location).append(
        "user-3", StoredEvent("e", "item-1", "click", before)
    )
    got = serving_parity(model_dir, settings, USERS)
    assert got["agreement"] == pytest.approx(11 / 12)
    assert got["differing"] == ["user-3"]


def test_what_the_run_does_not_learn_from_is_no_difference(settings, model_dir):
    """An event since the run's moment, and one whose type is no history."""
    moment = AS_OF - timedelta(minutes=2)
    at = int(moment.timestamp() * 1e6)
    history = open_history(settings.history_location)
    history.append("user-3", StoredEvent("e", "item-1", "click", at))
    history.append("user-4", StoredEvent("e", "item-1", "dislike", at - 1))
    assert serving_parity(model_dir, settings, USERS)["agreement"] == pytest.approx(10 / 12)
    roles = Roles.parse({"dislike": "negative"})
    got = serving_parity(model_dir, settings, USERS, roles=roles, until=moment)
    assert got["agreement"] == 1


def test_nobody_to_compare_says_so(settings, model_dir):
    assert "no user" in serving_parity(model_dir, settings, ["stranger"])["missing"]
