import asyncio

import pytest
from starlette.testclient import TestClient

from serving.api.app import create_app
from serving.api.guard import ROUTES, Guard, Limits
from serving.security import ROLES, ApiKeys, create_keys
from tests.serving.sites import KEYS

BODY = {
    "/v1/recommend": {"user_id": "anna"},
    "/v1/recommend/batch": {"requests": [{"user_id": "anna"}]},
    "/v1/similar": {"item_id": "item-1"},
    "/v1/events": {"event_id": "e", "user_id": "anna", "item_id": "item-1"},
}

PARAMETERS = {"/v1/history": {"user_id": "anna"}}


def call(client, path, key):
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if path in BODY:
        return client.post(path, json=BODY[path], headers=headers)
    return client.get(path, headers=headers, params=PARAMETERS.get(path))


@pytest.fixture
def anyone(settings):
    with TestClient(create_app(settings)) as client:
        yield client


def test_every_role_opens_its_own_routes_alone(anyone):
    for path, route in ROUTES.items():
        if route.role is None:
            assert call(anyone, path, None).status_code == 200, path
            continue
        assert call(anyone, path, None).status_code == 401, path
        assert call(anyone, path, "wrong").status_code == 403, path
        for role in ROLES:
            status = call(anyone, path, getattr(KEYS, role)[0]).status_code
            allowed = role in (route.role, "admin")
            assert (status < 400) if allowed else (status == 403), (path, role, status)


def test_without_keys_only_this_machine_is_answered(settings):
    app = create_app(settings.model_copy(update={"insecure": True}))
    with TestClient(app, client=("127.0.0.1", 1)) as client:
        assert call(client, "/v1/recommend", None).status_code == 200
    with TestClient(app, client=("10.0.0.9", 1)) as client:
        assert call(client, "/v1/recommend", None).status_code == 403


@pytest.mark.parametrize("content", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_bodies_that_are_not_json_are_415(client, content):
    headers = {} if content is None else {"Content-Type": content}
    assert client.post("/v1/recommend", content=b"{}", headers=headers).status_code == 415


def test_a_large_body_is_413_whether_or_not_it_says_so(client, settings):
    headers = {"Content-Type": "application/json"}
    body = b'{"user_id": "' + b"x" * settings.max_body_bytes + b'"}'
    assert client.post("/v1/recommend", content=body, headers=headers).status_code == 413

    def chunks():
        for _ in range(50):
            yield b" " * (settings.max_body_bytes // 10)

    assert client.post("/v1/recommend", content=chunks(), headers=headers).status_code == 413


def test_beyond_the_limit_requests_are_refused_at_once():
    asyncio.run(_overload())


async def _overload():
    release = asyncio.Event()

    async def app(scope, receive, send):
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    guard = Guard(app, keys=None, limits=Limits(body_bytes=1024, pending=2))
    answers = []

    async def ask():
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "path": "/v1/recommend",
            "method": "POST",
            "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/json")],
        }
        await guard(scope, receive, send)
        answers.append((sent[0]["status"], dict(sent[0]["headers"]).get(b"retry-after")))

    tasks = [asyncio.create_task(ask()) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert answers == [(503, b"1")] * 3
    release.set()
    await asyncio.gather(*tasks)
    assert answers[3:] == [(200, None)] * 2
    assert guard.pending == 0


def test_keys_are_made_once_for_this_user_alone(tmp_path):
    path = tmp_path / "api_keys.json"
    keys = create_keys(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert create_keys(path) == keys == ApiKeys.load(path)
    assert len({getattr(keys, role)[0] for role in ROLES}) == len(ROLES)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such key file"), ("{}", "holds no key"), ('{"root": ["k"]}', "Extra inputs")],
)
def test_a_bad_key_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "api_keys.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        ApiKeys.load(path)
    assert "\n" not in str(raised.value)
