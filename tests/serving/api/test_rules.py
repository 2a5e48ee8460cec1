"""Rules over HTTP: of a request, of a site, and what a bad one is told."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from feature_repo.event_log import read_log
from sasrec.errors import SettingsError
from serving import metrics
from serving.api.app import create_app
from serving.settings import Settings
from serving.worker.site_rules import SiteRules
from serving.worker.worker import Worker
from tests.serving.sites import ITEM_IDS

BAD = [
    ({"filter": {"price": {"lte": "cheap"}}}, "filter.price.lte"),
    ({"filter": {"pricee": 1}}, "filter.pricee"),
    ({"filter": {"not": {"brand": 3}}}, "filter.not.brand"),
    ({"filter": {"category": ["a", 1]}}, "filter.category.1"),
    ({"filter": []}, "filter"),
    ({"at_most": {"brand": 0}}, "at_most.brand"),
    ({"at_most": {"colour": 1}}, "at_most.colour"),
    ({"diversity": 1.5}, "diversity"),
    ({"boosts": [{"filter": {"brand": "b1"}, "times": 0}]}, "boosts.0.times"),
    ({"boosts": [{"filter": {"brnad": "b1"}}]}, "boosts.0.filter.brnad"),
    ({"pins": [{"item_id": "a", "position": 100}]}, "pins.0.position"),
    ({"pins": [{"item_id": "a", "until": "tomorrow"}]}, "pins.0.until"),
]


def shown(client, path="/v1/recommend", **request):
    response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    return [slot["item_id"] for slot in response.json()["items"]]


def described(client):
    """What the OpenAPI document says that a filter may ask for."""
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    return set(schemas["Filter"]["properties"])


def test_a_bad_rule_is_a_422_that_names_the_field(client):
    for body, field in BAD:
        response = client.post("/v1/recommend", json=body)
        assert (response.status_code, response.json()["field"]) == (422, field), body
        batch = client.post("/v1/recommend/batch", json={"requests": [{}, body]})
        assert (batch.status_code, batch.json()["field"]) == (422, f"requests.1.{field}")
    similar = {"item_id": ITEM_IDS[0], "filter": {"pricee": 1}}
    response = client.post("/v1/similar", json=similar)
    assert (response.status_code, response.json()["field"]) == (422, "filter.pricee")


def test_filters_hold_in_every_list_and_follow_the_items(client):
    cheap = {"price": {"lt": 2}}
    expected = set(ITEM_IDS[:4])
    assert set(shown(client, filter=cheap, k=100)) == expected
    batch = {"requests": [{"filter": cheap, "k": 100}, {"category": "books", "filter": cheap}]}
    answers = client.post("/v1/recommend/batch", json=batch).json()["answers"]
    lists = [{slot["item_id"] for slot in answer["items"]} for answer in answers]
    assert lists == [expected, {ITEM_IDS[0], ITEM_IDS[3]}]
    assert set(shown(client, "/v1/similar", item_id=ITEM_IDS[0], filter=cheap)) == set(
        ITEM_IDS[1:4]
    )

    known = {"price", "brand", "sale", "category", "item_id", "created_at", "not"}
    assert described(client) == known
    changes = [
        {"item_id": ITEM_IDS[1], "attributes": {"price": 99.0}},
        {"item_id": "fresh", "attributes": {"price": 0.5, "colour": "red"}},
    ]
    assert client.put("/v1/items", json={"items": changes}).status_code == 200
    expected = {"fresh", ITEM_IDS[0], ITEM_IDS[2], ITEM_IDS[3]}
    assert set(shown(client, filter=cheap, k=100)) == expected
    assert shown(client, filter={"colour": "red"}) == ["fresh"]
    assert described(client) == known | {"colour"}
    client.delete("/v1/items/fresh")
    assert set(shown(client, filter=cheap, k=100)) == expected - {"fresh"}


@pytest.fixture
def rules(home):
    """Writes the site's rules."""

    def write(**fields):
        unfinished = home / "rules.new"
        unfinished.write_text(json.dumps(fields))
        unfinished.replace(home / "rules.json")

    return write


def test_a_site_s_rules_hold_for_every_list_until_they_are_changed_or_over(settings, rules):
    soon = datetime.now(UTC) + timedelta(days=1)
    over = datetime.now(UTC) - timedelta(seconds=1)
    pins = [
        {"item_id": ITEM_IDS[51], "position": 1, "until": soon.isoformat()},
        {"item_id": ITEM_IDS[52], "until": over.isoformat()},
    ]
    rules(filter={"price": {"gte": 25}}, pins=pins)
    refused = metrics.RULES_REFUSED._value.get()
    placed = metrics.PLACED.labels("pin")
    before = placed._value.get()
    with TestClient(create_app(settings), headers={"Authorization": "Bearer key-a"}) as client:
        followed = client.app.state.worker._rules
        followed.close()  # from here on it looks when it is told to
        assert shown(client, user_id="anna", k=3) == [ITEM_IDS[50], ITEM_IDS[51], ITEM_IDS[52]]
        books = shown(client, filter={"category": "books"})
        assert books == [ITEM_IDS[54], ITEM_IDS[51], ITEM_IDS[57]]
        own = [{"item_id": ITEM_IDS[55], "position": 1}]
        assert shown(client, pins=own, k=3) == [ITEM_IDS[50], ITEM_IDS[55], ITEM_IDS[51]]
        assert set(shown(client, "/v1/similar", item_id=ITEM_IDS[0], k=100)) == set(ITEM_IDS[50:])
        rules(at_most={"category": 1})
        followed.look()
        assert shown(client) == ITEM_IDS[:2]
        (settings.home / "rules.json").write_text('{"filter": {"price": {}}}')
        followed.look()
        assert shown(client) == ITEM_IDS[:2]
        assert metrics.RULES_REFUSED._value.get() == refused + 1
        (settings.home / "rules.json").unlink()
        followed.look()
        assert shown(client, k=3) == ITEM_IDS[:3]
    assert placed._value.get() == before + 4
    logged = [r for r in read_log(settings.event_log_location) if r["type"] == "impression"]
    assert logged[0]["rules"] == [None, "pin", None]
    assert logged[0]["propensities"] == [1.0, 1.0, 1.0]
    assert "rules" not in logged[-1]


def test_wrong_rules_end_a_start_in_one_line(settings, rules, home, tmp_path):
    rules(filter={"price": {"lte": "cheap"}})
    with pytest.raises(SettingsError, match=r"rules\.json: filter\.price\.lte: is no moment"):
        Worker(settings)
    missing = Settings(home=home, rules=tmp_path / "none.json")
    with pytest.raises(SettingsError, match=r"SASREC_RULES: .*none\.json is not there"):
        SiteRules(missing)
