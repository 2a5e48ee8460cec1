import json
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from feature_repo.event_log import read_log
from sasrec.model.recommender import Recommender
from serving import metrics
from serving.api.app import create_app
from serving.registry import ModelStore
from serving.schemas import RecommendResponse
from tests.serving.sites import ITEM_IDS, NUM_ITEMS, register

JSON = {"Content-Type": "application/json"}


def ask(client, **request):
    response = client.post("/v1/recommend", json=request)
    assert response.status_code == 200, response.text
    return RecommendResponse.model_validate(response.json())


def tell(client, item_id, user_id="anna", event_id=None, **fields):
    event = {"event_id": event_id or f"{user_id}-{item_id}", "user_id": user_id, "item_id": item_id}
    response = client.post("/v1/events", json=event | fields)
    assert response.status_code == 202, response.text


def items(answer):
    return [slot.item_id for slot in answer.items]


@pytest.fixture
def model(client, home):
    store = client.app.state.worker.models.current.champion
    return Recommender.load(home / "models" / store.version)


def test_a_bare_list_gets_the_model_s_top_k(client, model):
    answer = ask(client, recent_items=ITEM_IDS[3:6], k=7)
    expected = model.recommend(ITEM_IDS[3:6], 7)
    assert items(answer) == [item for item, _ in expected]
    assert [slot.score for slot in answer.items] == pytest.approx([s for _, s in expected])
    assert [slot.position for slot in answer.items] == list(range(7))
    assert answer.degraded is None


def test_an_event_shifts_the_next_recommendation(client, model):
    before = ask(client, user_id="anna")
    tell(client, ITEM_IDS[5])
    after = ask(client, user_id="anna")
    assert items(after) == [item for item, _ in model.recommend([ITEM_IDS[5]], 10)]
    assert items(after) != items(before)


def test_negative_and_ignored_events_are_no_history_and_what_is_disliked_is_not_shown(
    settings, tmp_path
):
    roles = {"dislike": "negative", "shown": "ignore", "buy": 3}
    version = register(settings.home, tmp_path / "roles", seed=2, event_roles=roles)
    ModelStore(settings.home / "models").promote(version, why="test")
    recommender = Recommender.load(settings.home / "models" / version)
    with TestClient(create_app(settings), headers={"Authorization": "Bearer key-a"}) as client:
        tell(client, ITEM_IDS[5], event_type="buy")
        expected = [item for item, _ in recommender.recommend([ITEM_IDS[5]], 100)]
        assert items(ask(client, user_id="anna", k=100)) == expected
        for number, kind in enumerate(("dislike", "shown")):
            tell(client, expected[number], event_type=kind)
        del expected[0]
        assert items(ask(client, user_id="anna", k=100)) == expected
        again = items(ask(client, user_id="anna", k=100, allow_repeats=True))
        assert ITEM_IDS[5] in again
        assert set(again) == {*expected, ITEM_IDS[5]}


def test_a_model_that_was_judged_with_repeats_shows_them(settings, tmp_path):
    split = {"kind": "global-time", "repeats": {"targets": 0.9, "allowed": True}}
    version = register(settings.home, tmp_path / "repeats", seed=3, split=split)
    ModelStore(settings.home / "models").promote(version, why="test")
    with TestClient(create_app(settings), headers={"Authorization": "Bearer key-a"}) as client:
        tell(client, ITEM_IDS[5])
        assert ITEM_IDS[5] in items(ask(client, user_id="anna", k=100))
        asked = {"user_id": "anna", "k": 100, "allow_repeats": False}
        assert ITEM_IDS[5] not in items(ask(client, **asked))


def test_a_dislike_on_one_worker_is_gone_from_the_lists_of_another(settings, tmp_path):
    version = register(
        settings.home, tmp_path / "roles", seed=2, event_roles={"dislike": "negative"}
    )
    ModelStore(settings.home / "models").promote(version, why="test")
    headers = {"Authorization": "Bearer key-a"}
    with (
        TestClient(create_app(settings), headers=headers) as one,
        TestClient(create_app(settings), headers=headers) as other,
    ):
        shown = items(ask(other, user_id="anna"))
        tell(one, shown[0], event_type="dislike")
        assert items(ask(other, user_id="anna", k=9)) == shown[1:]
        assert shown[0] in items(ask(other, user_id="bert"))


def test_a_user_with_300_events_is_shown_nothing_twice(client, settings):
    early, late = ITEM_IDS[:40], ITEM_IDS[40:45]
    done = [*early, *(late[number % len(late)] for number in range(260))]
    assert len(done) == 300 > settings.history_length + len(early)
    events = [
        {"event_id": f"e-{n}", "user_id": "anna", "item_id": item} for n, item in enumerate(done)
    ]
    assert client.post("/v1/events", json={"events": events}).status_code == 202
    assert set(items(ask(client, user_id="anna", k=100))) == set(ITEM_IDS) - {*early, *late}
    assert len(items(ask(client, user_id="anna", k=100, allow_repeats=True))) == NUM_ITEMS


def test_the_request_s_items_follow_the_stored_history_once(client, model):
    for item in ITEM_IDS[:3]:
        tell(client, item)
    answer = ask(client, user_id="anna", recent_items=[ITEM_IDS[2], ITEM_IDS[9]])
    assert items(answer) == [item for item, _ in model.recommend([*ITEM_IDS[:3], ITEM_IDS[9]], 10)]


def test_a_batch_without_times_keeps_its_order_and_loses_nothing(client, settings, model):
    """One moment for all would order them by their ids, and training would drop the repetition."""
    done = [ITEM_IDS[1], ITEM_IDS[3], ITEM_IDS[1], ITEM_IDS[0]]
    events = [
        {"event_id": f"e-{9 - n}", "user_id": "anna", "item_id": item}
        for n, item in enumerate(done)
    ]
    assert client.post("/v1/events", json={"events": events}).status_code == 202
    assert items(ask(client, user_id="anna")) == [i for i, _ in model.recommend(done, 10)]
    logged = [r for r in read_log(settings.event_log_location) if r["type"] == "event"]
    assert [event["item_id"] for event in logged] == done
    times = [event["timestamp"] for event in logged]
    assert times == sorted(set(times))


def test_an_event_sent_again_changes_nothing(client):
    tell(client, ITEM_IDS[1], event_id="same")
    tell(client, ITEM_IDS[2], event_id="other")
    before = ask(client, user_id="anna")
    tell(client, ITEM_IDS[1], event_id="same")
    assert items(ask(client, user_id="anna")) == items(before)


def test_strangers_and_unknown_items_get_what_is_popular(client):
    expected = ITEM_IDS[:10]  # popularity falls with the number
    assert items(ask(client, user_id="nobody")) == expected
    answer = ask(client, recent_items=["never-heard-of"])
    assert items(answer) == expected
    assert answer.items[0].score is None


def test_a_whole_number_is_an_integer_however_it_is_written(client):
    response = client.post("/v1/recommend", content='{"k": 7.0}', headers=JSON)
    assert len(response.json()["items"]) == 7


def test_seen_excluded_and_other_categories_stay_out(client):
    seen, excluded = ITEM_IDS[:5], ITEM_IDS[6:20]
    answer = ask(client, recent_items=seen, exclude=excluded, category="books", k=100)
    allowed = {i for n, i in enumerate(ITEM_IDS) if n % 3 == 0} - {*seen, *excluded}
    assert set(items(answer)) == allowed
    assert len(items(answer)) == len(allowed)


def test_repeats_are_shown_when_asked_for(client):
    recent = ITEM_IDS[:5]
    assert not set(recent) & set(items(ask(client, recent_items=recent, k=100)))
    shown = items(ask(client, recent_items=recent, k=100, allow_repeats=True))
    assert len(shown) == NUM_ITEMS == len(set(shown))


def test_a_category_without_items_is_an_empty_list(client):
    assert ask(client, recent_items=ITEM_IDS[:1], category="toys").items == []


def test_every_slate_is_logged_with_its_propensities(settings):
    headers = {"Authorization": "Bearer key-a"}
    with TestClient(create_app(settings), headers=headers) as client:
        answer = ask(client, user_id="anna", k=4, request_id="r-1", recent_items=ITEM_IDS[:2])
    [record] = read_log(settings.event_log_location)
    assert record["request_id"] == "r-1"
    assert record["item_ids"] == items(answer)
    assert record["propensities"] == [slot.propensity for slot in answer.items]
    assert record["model_version"] == answer.model_version
    assert (record["history_length"], record["eligible"]) == (2, NUM_ITEMS - 2)


def test_a_batch_of_events_is_taken_together(client, model):
    events = [
        {
            "event_id": f"e{n}",
            "user_id": "bert",
            "item_id": ITEM_IDS[n],
            "timestamp": f"2026-01-01T00:00:0{n}Z",
        }
        for n in (2, 0, 1)
    ]
    response = client.post("/v1/events", json={"events": events})
    assert (response.status_code, response.json()) == (202, {"accepted": 3})
    expected = [item for item, _ in model.recommend(ITEM_IDS[:3], 10)]
    assert items(ask(client, user_id="bert")) == expected


def test_a_full_disk_is_a_503_and_nothing_is_applied(client, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = items(ask(client, user_id="anna"))
    monkeypatch.setattr("serving.events.writer.EventLog._write", full)
    response = client.post(
        "/v1/events", json={"event_id": "e", "user_id": "anna", "item_id": ITEM_IDS[30]}
    )
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert items(ask(client, user_id="anna")) == before


def test_a_failing_model_is_degraded_to_what_is_popular(client, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("serving.engine.engine.Engine.rank_batch", broken)
    answer = ask(client, recent_items=ITEM_IDS[:1])
    assert answer.degraded == "model"
    assert answer.policy == "popularity"
    assert items(answer) == ITEM_IDS[1:11]
    assert [slot.propensity for slot in answer.items] == [1.0] * 10


def test_an_unreadable_history_is_degraded_to_the_request_s_items(client, model, monkeypatch):
    def broken(*_):
        raise ConnectionError("store is away")

    monkeypatch.setattr("feature_repo.online.OnlineHistory.read", broken)
    answer = ask(client, user_id="anna", recent_items=ITEM_IDS[:2])
    assert answer.degraded == "history"
    assert items(answer) == [item for item, _ in model.recommend(ITEM_IDS[:2], 10)]


@pytest.mark.parametrize(
    ("request_body", "field"),
    [
        ({"k": 0}, "k"),
        ({"k": 101}, "k"),
        ({"k": "ten"}, "k"),
        ({"k": "10"}, "k"),
        ({"k": 10.5}, "k"),
        ({"k": True}, "k"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "secret-user", "unknown_field": 1}, "unknown_field"),
        ({"recent_items": [1]}, "recent_items.0"),
        ({"allow_repeats": 1}, "allow_repeats"),
        ({"request_id": "has spaces"}, "request_id"),
    ],
)
def test_a_body_that_breaks_the_schema_is_refused_without_an_echo(client, request_body, field):
    response = client.post("/v1/recommend", json=request_body)
    assert response.status_code == 422
    assert response.json()["field"] == field
    assert "secret-user" not in response.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"k": NaN}',
        b'{"k": 1e999}',
        b'{"k": ' + b"9" * 5000 + b"}",
        b'{"user_id": "\xff\xfe"}',
        b'{"user_id": "\\ud800"}',
        b"[" * 100_000,
        b'{"recent_items": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
@pytest.mark.parametrize("route", ["/v1/recommend", "/v1/events"])
def test_hostile_bodies_are_refused(client, route, body):
    response = client.post(route, content=body, headers=JSON)
    assert response.status_code == 422
    assert set(response.json()) == {"error", "field", "reason"}


EVENT = {"event_id": "e1", "user_id": "u", "item_id": "i"}


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"events": [EVENT, EVENT | {"event_id": "g 2"}]}, "events.1.event_id", "match pattern"),
        ({"events": [EVENT, {"user_id": "u", "item_id": "i"}]}, "events.1.event_id", "required"),
        ({"events": []}, "events", "at least 1"),
        ({"events": [EVENT], "more": 1}, "more", "not permitted"),
        (EVENT | {"item_id": ""}, "item_id", "at least 1 character"),
        (EVENT | {"timestamp": "2024-01-01T00:00:00"}, "timestamp", "timezone"),
        ({"events": [EVENT, EVENT | {"timestamp": "0001-01-01T00:00:00Z"}]},
         "events.1.timestamp", "more than 3650 days back"),
        (EVENT | {"timestamp": "1970-01-01T00:00:00Z"}, "timestamp", "more than 3650 days back"),
    ],
)  # fmt: skip
def test_a_refused_event_is_named_with_what_is_expected(client, body, field, reason):
    response = client.post("/v1/events", json=body)
    assert response.status_code == 422
    assert response.json()["field"] == field
    assert reason in response.json()["reason"]


def test_a_clock_that_is_ahead_does_not_freeze_a_list(client, settings, model):
    tell(client, ITEM_IDS[5], timestamp="2131-05-01T00:00:00Z")
    tell(client, ITEM_IDS[9], timestamp="9999-12-31T23:59:59Z")
    tell(client, ITEM_IDS[2])
    newest = [ITEM_IDS[5], ITEM_IDS[9], ITEM_IDS[2]]
    assert items(ask(client, user_id="anna")) == [i for i, _ in model.recommend(newest, 10)]
    ahead = metrics.EVENTS_AHEAD._value.get()
    tell(client, ITEM_IDS[3], timestamp=datetime.now(UTC).isoformat())
    assert metrics.EVENTS_AHEAD._value.get() == ahead
    tell(client, ITEM_IDS[4], timestamp="2031-05-01T00:00:00Z")
    assert metrics.EVENTS_AHEAD._value.get() == ahead + 1


def test_the_openapi_document_describes_requests_and_answers(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "recent_items" in schemas["RecommendRequest"]["properties"]
    assert "propensity" in schemas["RecommendedItem"]["properties"]
    references = json.dumps(document).split('"$ref": "#/components/schemas/')[1:]
    assert {reference.split('"')[0] for reference in references} <= set(schemas)
