"""Many lists in one call, and what is next to an item: `/v1/recommend/batch`, `/v1/similar`."""

import numpy as np
import pytest

from feature_repo.event_log import read_log
from serving.engine.engine import Engine
from serving.registry import ModelStore
from serving.schemas import MAX_BATCH
from tests.serving.sites import ITEM_IDS

HISTORIES = [ITEM_IDS[:3], ITEM_IDS[10:11], [], ["unheard-of"], ITEM_IDS[5:45]]


@pytest.fixture
def engine(home):
    store = ModelStore(home / "models")
    return Engine(store.path(store.aliases().champion))


@pytest.mark.parametrize("scores_at_once", [8_000_000, 150], ids=["one block", "blocks of two"])
def test_histories_rank_together_as_they_do_alone(engine, monkeypatch, scores_at_once):
    monkeypatch.setattr("serving.engine.engine.SCORES_AT_ONCE", scores_at_once)
    histories = [(items, list(range(len(items)))) for items in HISTORIES]
    everything = np.arange(1, len(ITEM_IDS) + 1)
    for (items, times), together in zip(histories, engine.rank_batch(histories), strict=True):
        alone = engine.rank(items, times)
        if alone is None:
            assert together is None
        else:
            np.testing.assert_allclose(
                together.scores(everything), alone.scores(everything), rtol=1e-4, atol=1e-5
            )


def test_a_batch_is_answered_in_order_as_one_by_one(client):
    requests = [
        {"recent_items": items, "k": 4, "request_id": f"r-{row}"}
        for row, items in enumerate(HISTORIES * 10)  # more than one slice
    ]
    answers = client.post("/v1/recommend/batch", json={"requests": requests}).json()["answers"]
    for request, answer in zip(requests, answers, strict=True):
        alone = client.post("/v1/recommend", json=request).json()
        assert answer["request_id"] == request["request_id"]
        for name in ("item_id", "propensity", "position"):
            assert [i[name] for i in answer["items"]] == [i[name] for i in alone["items"]]


def test_a_batch_reads_histories_and_logs_every_list(client, home):
    event = {"event_id": "e", "user_id": "u", "item_id": ITEM_IDS[7]}
    client.post("/v1/events", json=event)
    requests = [{"user_id": user, "k": 60} for user in ("u", "stranger")]
    answers = client.post("/v1/recommend/batch", json={"requests": requests}).json()["answers"]
    known, cold = ([item["item_id"] for item in answer["items"]] for answer in answers)
    assert ITEM_IDS[7] not in known
    assert cold == ITEM_IDS  # by popularity, which falls with the number
    client.__exit__(None, None, None)  # which writes what is queued
    logged = [r for r in read_log(home / "event_log") if r["type"] == "impression"]
    assert [(r["request_id"], r["item_ids"]) for r in logged] == [
        (answer["request_id"], [item["item_id"] for item in answer["items"]]) for answer in answers
    ]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"requests": []}, "requests"),
        ({"requests": [{}] * (MAX_BATCH + 1)}, "requests"),
        ({"requests": [{"k": 5}, {"k": 0}]}, "requests.1.k"),
        ({}, "requests"),
    ],
)
def test_a_bad_batch_names_the_field(client, body, field):
    response = client.post("/v1/recommend/batch", json=body)
    assert response.status_code == 422
    assert response.json()["field"] == field


def test_the_nearest_items_come_first_and_the_item_itself_does_not(client, engine):
    answer = client.post("/v1/similar", json={"item_id": ITEM_IDS[4], "k": 59}).json()
    found = [item["item_id"] for item in answer["items"]]
    assert sorted([*found, ITEM_IDS[4]]) == sorted(ITEM_IDS)
    matrix = engine.recommender.model.item_matrix().detach().numpy()[1:]
    unit = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    cosines = [item["similarity"] for item in answer["items"]]
    assert cosines == sorted(cosines, reverse=True)
    expected = [unit[4] @ unit[ITEM_IDS.index(item)] for item in found]
    np.testing.assert_allclose(cosines, expected, rtol=1e-4, atol=1e-6)


def test_similar_items_can_be_filtered(client):
    body = {"item_id": ITEM_IDS[4], "k": 100, "category": "books", "exclude": [ITEM_IDS[0]]}
    items = client.post("/v1/similar", json=body).json()["items"]
    assert {item["category"] for item in items} == {"books"}
    assert ITEM_IDS[0] not in [item["item_id"] for item in items]


def test_an_item_that_the_model_does_not_know_is_a_404(client):
    response = client.post("/v1/similar", json={"item_id": "unheard-of"})
    assert response.status_code == 404
    assert response.json()["field"] == "item_id"
