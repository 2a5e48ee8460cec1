"""Items come, change and go while the service runs: in every worker's lists, and never lost."""

import time

import numpy as np
import pytest
from starlette.testclient import TestClient

from feature_repo.event_log import read_log
from serving.api.app import create_app
from serving.engine.live_items import FEW_IMPRESSIONS
from tests.serving.api.test_app import ask, items, tell
from tests.serving.sites import ITEM_IDS, NUM_ITEMS

ADMIN = {"Authorization": "Bearer key-a"}


def put(client, *items, **item):
    body = {"items": list(items)} if items else item
    response = client.put("/v1/items", json=body)
    assert response.status_code == 200, response.text
    return response.json()["accepted"]


def eventually(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def plain(settings):
    """Without slots for new items: what is shown is what scores best."""
    return settings.model_copy(update={"new_item_share": 0.0})


def test_a_new_item_is_in_every_worker_s_lists_and_an_unavailable_one_in_none(plain):
    with (
        TestClient(create_app(plain), headers=ADMIN) as one,
        TestClient(create_app(plain), headers=ADMIN) as other,
    ):

        def everything(client):
            return items(ask(client, user_id="anna", k=100, allow_repeats=True))

        assert put(one, item_id="new", title="New", category="books") == 1
        assert "new" in everything(one)
        eventually(lambda: "new" in everything(other))
        assert "new" in items(ask(other, recent_items=[ITEM_IDS[3]], category="books", k=100))
        assert "new" not in items(ask(other, recent_items=[ITEM_IDS[3]], category="films", k=100))
        assert put(other, {"item_id": "new", "available": False}, {"item_id": ITEM_IDS[7]}) == 2
        assert one.delete(f"/v1/items/{ITEM_IDS[4]}").json() == {"accepted": 1}
        assert one.request("DELETE", "/v1/items", json={"item_ids": [ITEM_IDS[5]]}).is_success
        gone = {"new", ITEM_IDS[4], ITEM_IDS[5]}
        for client in (one, other):
            eventually(lambda client=client: not gone & {*everything(client)})
        assert len(everything(one)) == NUM_ITEMS - 2
        found = one.get("/v1/items", params={"item_id": "new"}).json()["items"]
        assert found == [{"item_id": "new", "title": "new", "category": None}]
    with TestClient(create_app(plain), headers=ADMIN) as later:
        assert not gone & {*everything(later)}


def test_an_item_whose_id_has_a_slash_is_taken_out(client):
    put(client, item_id="a/b c", category="toys")
    assert items(ask(client, category="toys")) == ["a/b c"]
    assert client.delete("/v1/items/a%2Fb%20c").status_code == 200
    assert items(ask(client, category="toys")) == []


def test_an_event_on_a_new_item_leaves_nobody_cold(client):
    put(client, item_id="new", category="books")
    tell(client, "new")
    answer = ask(client, user_id="anna")
    assert all(slot.score is not None for slot in answer.items)
    assert "new" not in items(answer)


def test_a_new_item_without_features_scores_as_its_category_does_on_average(plain):
    with TestClient(create_app(plain), headers=ADMIN) as client:
        before = ask(client, recent_items=[ITEM_IDS[1]], k=100, allow_repeats=True)
        put(client, item_id="new", category="books")
        after = ask(client, recent_items=[ITEM_IDS[1]], k=100, allow_repeats=True)
    scores = {slot.item_id: slot.score for slot in after.items}
    books = [scores[item] for number, item in enumerate(ITEM_IDS) if number % 3 == 0]
    assert scores.pop("new") == pytest.approx(np.mean(books), abs=1e-4)
    assert scores == pytest.approx({slot.item_id: slot.score for slot in before.items})


def test_few_impressions_are_given_to_new_items_on_purpose_and_no_more(settings):
    settings = settings.model_copy(update={"new_item_share": 0.5})
    with TestClient(create_app(settings), headers=ADMIN) as client:
        put(client, {"item_id": "new"}, {"item_id": ITEM_IDS[0], "title": "Known to everyone"})
        drawn = 0
        for _ in range(40):
            answer = ask(client, recent_items=[ITEM_IDS[1]], k=5)
            shown = [slot for slot in answer.items if slot.item_id == "new"]
            drawn += bool(shown)
            assert all(0.5 <= slot.propensity <= 1 for slot in answer.items)
        assert drawn >= FEW_IMPRESSIONS  # half of five slots are for it until it is shown
        eventually(lambda: set(client.app.state.worker._catalogue._impressions) == {"new"})
        eventually(lambda: client.app.state.worker.champion._new.tolist() == [])
        assert client.app.state.worker._catalogue._impressions["new"] >= FEW_IMPRESSIONS
        answers = [items(ask(client, recent_items=[ITEM_IDS[1]], k=5)) for _ in range(5)]
        assert all(answer == answers[0] for answer in answers)
    introduced = [
        record["introduced"]
        for record in read_log(settings.event_log_location)
        if record["type"] == "impression"
    ]
    assert sum(map(sum, introduced)) == drawn


def test_acknowledged_items_outlive_a_worker_that_had_no_time_to_apply_them(settings, monkeypatch):
    with TestClient(create_app(settings), headers=ADMIN) as client:
        monkeypatch.setattr("serving.events.history_writer.HistoryWriter._try", lambda *_: False)
        put(client, item_id="new", category="toys")
        put(client, item_id=ITEM_IDS[2], available=False)
        assert items(ask(client, category="toys")) == []
    monkeypatch.undo()
    with TestClient(create_app(settings), headers=ADMIN) as client:
        assert items(ask(client, category="toys")) == ["new"]
        assert ITEM_IDS[2] not in items(ask(client, k=100))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "item_id"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": "i", "price": 3}, "price"),
        ({"item_id": "i", "available": "no"}, "available"),
        ({"item_id": "i", "created_at": "yesterday"}, "created_at"),
        ({"item_id": "i", "created_at": "2026-01-01T00:00:00"}, "created_at"),
        ({"item_id": "i", "attributes": {"price": [3]}}, "attributes.price"),
        ({"item_id": "i", "attributes": {"title": "x"}}, "attributes.title.[key]"),
        ({"item_id": "i", "attributes": {"Brand": 2}}, "attributes.Brand.[key]"),
        ({"items": []}, "items"),
        ({"items": [{"item_id": "i"}, {"item_id": 7}]}, "items.1.item_id"),
    ],
    ids=str,
)
def test_a_bad_item_is_refused_by_field_and_nothing_is_logged(client, settings, body, field):
    response = client.put("/v1/items", json=body)
    assert (response.status_code, response.json()["field"]) == (422, field)
    assert list(read_log(settings.event_log_location)) == []


def test_changing_items_takes_a_key_of_its_own(settings):
    def status(method, path, key, **body):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return client.request(method, path, headers=headers, **body).status_code

    with TestClient(create_app(settings)) as client:
        for key, allowed in (("key-c", 200), ("key-a", 200), ("key-r", 403), (None, 401)):
            assert status("PUT", "/v1/items", key, json={"item_id": "i"}) == allowed
            assert status("DELETE", "/v1/items/i", key) == allowed
            assert status("DELETE", "/v1/items", key, json={"item_ids": ["i"]}) == allowed
        assert status("GET", "/v1/items", "key-r") == 200
        assert status("GET", "/v1/items", "key-c") == 403
        assert status("PUT", "/v1/items", "key-c", content=b"{") == 415


def test_a_method_that_is_not_allowed_is_told_which_are(client):
    response = client.request("OPTIONS", "/v1/items")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE, GET, PUT"
    assert client.put("/v1/items/item-3").status_code == 405
