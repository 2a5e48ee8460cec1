import ast
import logging
from pathlib import Path

import pytest

from serving import metrics
from serving.api.guard import CATALOGUE, OTHER, ROUTES
from tests.serving.sites import ITEM_IDS

PROJECT = Path(__file__).resolve().parents[3]
PRODUCT = ("sasrec", "kernels", "serving", "feature_repo", "components")
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec"}


def product_files():
    return [path for folder in PRODUCT for path in (PROJECT / folder).rglob("*.py")]


def test_nothing_untrusted_is_unpickled_or_evaluated():
    assert product_files()
    found = []
    for path in product_files():
        for node in ast.walk(ast.parse(path.read_text())):
            found += [f"{path}:{node.lineno} {problem}" for problem in problems(node)]
    assert found == []


def problems(node):
    if isinstance(node, ast.Import):
        yield from {alias.name.split(".")[0] for alias in node.names} & UNPICKLERS
    if isinstance(node, ast.ImportFrom) and node.module:
        yield from {node.module.split(".")[0]} & UNPICKLERS
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
            yield node.func.id
        called = ast.unparse(node.func)
        weights_only = any(
            k.arg == "weights_only" and getattr(k.value, "value", None) is True
            for k in node.keywords
        )
        if called == "torch.load" and not weights_only:
            yield "torch.load without weights_only=True"
        if any(k.arg == "allow_pickle" and getattr(k.value, "value", 0) for k in node.keywords):
            yield "allow_pickle"


def test_random_paths_and_users_add_no_metric_series(client):
    def series():
        lines = metrics.exposition().decode().splitlines()
        return {line.rsplit(" ", 1)[0] for line in lines if line.startswith("reco_")}

    def traffic(number):
        client.get(f"/random/{number}")
        client.post(f"/v1/recommend/{number}", json={})
        client.post("/v1/recommend", json={"user_id": f"user-{number}"})
        client.post("/v1/recommend", json={"user_id": "u", "category": f"category-{number}"})

    traffic(0)
    before = series()
    for number in range(1, 200):
        traffic(number)
    assert series() == before
    routes = {route.name for route in (*ROUTES.values(), CATALOGUE, OTHER)}
    named = {s.split('route="')[1].split('"')[0] for s in before if 'route="' in s}
    assert named <= routes


def test_a_user_is_never_named_in_a_log(client, caplog, monkeypatch):
    canary = "canary-4711"
    caplog.set_level(logging.DEBUG)

    def everything():
        client.post("/v1/recommend", json={"user_id": canary, "recent_items": ITEM_IDS[:1]})
        client.post("/v1/recommend", json={"user_id": canary, "k": "canary-4711"})
        event = {"event_id": "e-canary", "user_id": canary, "item_id": ITEM_IDS[0]}
        client.post("/v1/events", json=event)
        client.post("/v1/events", json={**event, "timestamp": canary})

    everything()
    with monkeypatch.context() as broken:
        broken.setattr("serving.engine.engine.Engine.rank_batch", lambda *_: 1 / 0)
        broken.setattr("feature_repo.online.OnlineHistory.read", lambda *_: 1 / 0)
        everything()
    assert "the model failed" in caplog.text
    assert canary not in caplog.text


@pytest.mark.parametrize("path", ["/v1/items", "/v1/history", "/v1/status", "/metrics"])
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}], ids=len)
def test_reading_routes_take_no_body(client, path, headers):
    assert client.post(path, content=b"{}", headers=headers).status_code == 405
    assert client.post("/nowhere", content=b"{}", headers=headers).status_code == 404
