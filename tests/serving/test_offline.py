"""Lists for all users in a file: as the service draws them, whole after an interruption."""

import json
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import pipeline
from feature_repo.catalogue import open_catalogue
from feature_repo.history import StoredEvent, open_history
from feature_repo.online import UserHistory
from feature_repo.publish import publish
from sasrec.data.schema import INTERACTIONS
from sasrec.errors import DataError, SettingsError
from serving import offline
from serving.engine.engine import Engine
from serving.engine.recommendation import recommend
from serving.engine.request_history import by_role
from serving.engine.routing import choose_policy
from serving.registry import ModelStore
from serving.schemas import ItemIds, RecommendRequest
from serving.settings import Settings
from tests.serving.sites import ITEM_IDS, register

AS_OF = datetime(2026, 1, 10, tzinfo=UTC)
USERS = [f"user-{n:02}" for n in range(9)]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A feature store of nine users; the last one did things with an item that no model knows."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "user_id": user,
            "item_id": "unheard-of" if user == USERS[-1] else str(rng.choice(ITEM_IDS)),
            "timestamp": AS_OF - timedelta(minutes=100 - n),
            "event_type": "click",
            "value": None,
            "sequence": n,
        }
        for user in USERS
        for n in range(30)
    ]
    folder = tmp_path_factory.mktemp("published") / "feature_store"
    publish(
        folder,
        interactions=pa.Table.from_pylist(rows, schema=INTERACTIONS),
        items=None,
        impressions=None,
        cutoffs=None,
        as_of=AS_OF,
    )
    return folder


@pytest.fixture
def settings(home, published):
    (home / "feature_store").symlink_to(published)
    return Settings(
        home=home, history=str(home / "history.db"), epsilon=0.3, gold_share=0.3, temperature=0.5
    )


def test_every_user_gets_the_list_that_the_service_would_draw(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(offline, "USERS_PER_PART", 4)
    monkeypatch.setattr(offline, "USERS_AT_ONCE", 3)
    plan = offline.write_lists(settings, tmp_path / "lists.parquet", k=7)
    lists = pq.read_table(tmp_path / "lists.parquet")
    assert lists.schema.equals(offline.LISTS)
    assert Counter(lists["user_id"].to_pylist()) == dict.fromkeys(USERS, 7)
    assert lists["position"].to_pylist() == list(range(7)) * len(USERS)
    assert not list(tmp_path.glob("lists.parquet.*"))

    engine = Engine(ModelStore(settings.home / "models").path(plan.model_version))
    events = pq.read_table(settings.feature_store / "current" / "user_sequence").to_pylist()
    for user in USERS:
        rows = [row for row in lists.to_pylist() if row["user_id"] == user]
        last = max((e for e in events if e["user_id"] == user), key=lambda e: e["event_timestamp"])
        times = last["timestamps"]
        stored = UserHistory(last["item_ids"], last["event_types"], times)
        answer = recommend(
            engine,
            RecommendRequest(user_id=user, k=7, request_id=rows[0]["request_id"]),
            by_role(stored, engine.roles, settings.history_length),
            choose_policy(user, settings),
            candidates=settings.candidates,
        )
        assert [row["item_id"] for row in rows] == answer.item_ids
        np.testing.assert_allclose(
            [row["propensity"] for row in rows], answer.slate.propensities, rtol=1e-4
        )
        assert {row["score"] is None for row in rows} == {user == USERS[-1]}


def test_what_happened_since_the_publish_counts(home, settings, tmp_path):
    """An event, a dislike and an item that is gone, as the service would hear of them."""
    roles = {"dislike": "negative"}
    store = ModelStore(home / "models")
    store.promote(register(home, tmp_path / "roles", seed=2, event_roles=roles))
    settings = settings.model_copy(update={"epsilon": 0.0, "gold_share": 0.0, "temperature": 0.0})
    [user] = offline_users = USERS[:1]

    def items():
        offline.write_lists(settings, tmp_path / "lists.parquet", k=20, users=offline_users)
        return pq.read_table(tmp_path / "lists.parquet")["item_id"].to_pylist()

    before = items()
    met, disliked, gone = before[:3]
    later = round(AS_OF.timestamp() * 1e6) + 1
    with closing(open_history(settings.history_location)) as online:
        online.append(user, StoredEvent("e1", met, "click", later))
        online.append(user, StoredEvent("e2", disliked, "dislike", later + 1))
    with closing(open_catalogue(settings.history_location)) as catalogue:
        catalogue.apply(ItemIds(item_ids=[gone]).records(now=later, update_id="u"))
    assert not {met, disliked, gone} & set(items())


def test_the_site_s_rules_hold_for_these_lists_too(home, settings, tmp_path):
    settings = settings.model_copy(update={"epsilon": 0.0, "gold_share": 0.0, "temperature": 0.0})
    rules = {"filter": {"category": "books"}, "pins": [{"item_id": ITEM_IDS[57], "position": 1}]}
    (home / "rules.json").write_text(json.dumps(rules))
    offline.write_lists(settings, tmp_path / "lists.parquet", k=3, users=["stranger"])
    lists = pq.read_table(tmp_path / "lists.parquet")
    assert lists["item_id"].to_pylist() == [ITEM_IDS[0], ITEM_IDS[57], ITEM_IDS[3]]
    assert lists["rule"].to_pylist() == [None, "pin", None]
    assert lists["propensity"].to_pylist() == [1.0] * 3
    # Other rules are another plan: what is there of these is not gone on with.
    plan = offline.write_lists(settings, tmp_path / "lists.parquet", k=3, users=["stranger"])
    (home / "rules.json").unlink()
    other = offline.write_lists(settings, tmp_path / "lists.parquet", k=3, users=["stranger"])
    assert (plan.rules == "", other.rules) == (False, "")


def test_an_interrupted_run_goes_on_where_it_stopped(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(offline, "USERS_PER_PART", 4)
    offline.write_lists(settings, tmp_path / "whole.parquet", k=5)
    drawn = []
    draw = offline.recommend_batch

    def counted(engine, asked, **options):
        if len(drawn) == 1:
            raise KeyboardInterrupt
        drawn.append([a.request.user_id for a in asked])
        return draw(engine, asked, **options)

    monkeypatch.setattr(offline, "recommend_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        offline.write_lists(settings, tmp_path / "lists.parquet", k=5)
    assert not (tmp_path / "lists.parquet").exists()
    drawn.append("so that nothing interrupts again")
    offline.write_lists(settings, tmp_path / "lists.parquet", k=5)
    assert drawn[0] == USERS[:4]
    assert drawn[2:] == [USERS[4:8], USERS[8:]]
    assert pq.read_table(tmp_path / "lists.parquet").equals(
        pq.read_table(tmp_path / "whole.parquet")
    )


def test_what_was_begun_with_another_plan_is_begun_again(settings, tmp_path):
    begun = tmp_path / "lists.parquet.parts"
    begun.mkdir()
    (begun / offline.PLAN).write_text("{}")
    (begun / "000000.parquet").write_text("of another plan")
    offline.write_lists(settings, tmp_path / "lists.parquet", k=5, users=USERS[:1])
    assert pq.read_metadata(tmp_path / "lists.parquet").num_rows == 5


def test_named_users_alone_and_a_stranger_gets_what_is_popular(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("SASREC_EPSILON", "0")
    monkeypatch.setenv("SASREC_GOLD_SHARE", "0")
    (tmp_path / "users.txt").write_text(f"stranger\n{USERS[3]}\n")
    words = ["recommend", "--home", str(settings.home), "--k", "3"]
    words += ["--users", str(tmp_path / "users.txt"), "--output", str(tmp_path / "lists.parquet")]
    result = CliRunner().invoke(pipeline.app, words)
    assert result.exit_code == 0, result.output
    assert "2 lists of version" in result.output
    rows = pq.read_table(tmp_path / "lists.parquet").to_pylist()
    assert [row["item_id"] for row in rows if row["user_id"] == "stranger"] == ITEM_IDS[:3]
    assert len([row for row in rows if row["user_id"] == USERS[3]]) == 3


def test_what_is_missing_is_said_in_one_line(settings, tmp_path):
    lists = tmp_path / "lists.parquet"
    with pytest.raises(DataError, match="no user is named"):
        offline.write_lists(settings, lists, k=5, users=[])
    with pytest.raises(DataError, match="no champion yet"):
        offline.write_lists(Settings(home=tmp_path / "empty"), lists, k=5)
    with pytest.raises(SettingsError, match="cannot write /proc/lists"):
        offline.write_lists(settings, offline.Path("/proc/lists.parquet"), k=5)
