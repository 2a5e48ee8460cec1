"""The first thing that a request meets: authentication, size, type and concurrency limits.

A plain ASGI wrapper, since every refusal under overload costs what this costs. It also counts
every answer, under a route name from a fixed set.
"""

from dataclasses import dataclass
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.api.errors import Refusal
from serving.security import LOOPBACK, ApiKeys, Role

JSON = b"application/json"


@dataclass(frozen=True)
class Route:
    """A path that callers may use.

    Attributes:
        name: the metric label.
        role: the key that opens it; None for everyone.
        limited: whether it takes a body and counts against the concurrency limit.
    """

    name: str
    role: Role | None = None
    limited: bool = False


ROUTES = {
    "/v1/recommend": Route("recommend", "recommend", limited=True),
    "/v1/recommend/batch": Route("recommend_batch", "recommend", limited=True),
    "/v1/similar": Route("similar", "recommend", limited=True),
    "/v1/events": Route("events", "events", limited=True),
    "/v1/items": Route("items", "recommend"),
    "/v1/history": Route("history", "admin"),
    "/v1/status": Route("status", "admin"),
    "/metrics": Route("metrics", "metrics"),
    "/docs": Route("docs"),
    "/openapi.json": Route("docs"),
    "/": Route("console"),
    "/console.css": Route("console"),
    "/console.js": Route("console"),
    "/filter.js": Route("console"),
}
CATALOGUE = Route("catalogue", "catalogue", limited=True)  # changes of /v1/items, and beneath
OTHER = Route("other")
BODIES = ("POST", "PUT", "DELETE")


def route_of(method: str, path: str) -> Route:
    """The route of a request; whoever changes items needs another key than who reads them."""
    if (path == "/v1/items" and method in ("PUT", "DELETE")) or path.startswith("/v1/items/"):
        return CATALOGUE
    return ROUTES.get(path, OTHER)


@dataclass(frozen=True)
class Limits:
    """What one worker accepts.

    Attributes:
        body_bytes: largest request body.
        pending: recommendations and events under way at once.
    """

    body_bytes: int
    pending: int


class Guard:
    """ASGI middleware in front of the application.

    Args:
        keys: None lets everyone on this machine in, and nobody else.
    """

    def __init__(self, app: ASGIApp, *, keys: ApiKeys | None, limits: Limits) -> None:
        self.app = app
        self.keys = keys
        self.limits = limits
        self.pending = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = route_of(scope["method"], scope["path"])
        started = perf_counter()
        status = 500

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._admit(route, scope, receive, watch)
        except Refusal as refusal:
            await _answer(refusal, watch)
        finally:
            metrics.observe_request(route.name, status, perf_counter() - started)

    async def _admit(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self._authenticate(route, scope, headers)
        if scope["method"] not in BODIES or not route.limited:
            await self.app(scope, receive, send)
            return
        if self.pending >= self.limits.pending:
            raise Refusal(503, "busy; try again")
        with_body = not scope["path"].startswith("/v1/items/")
        content_type = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if with_body and content_type != JSON:
            raise Refusal(415, "the body must be application/json")
        body = await self._read_body(headers, receive)
        self.pending += 1
        metrics.IN_FLIGHT.set(self.pending)
        try:
            await self.app(scope, _replay(body, receive), send)
        finally:
            self.pending -= 1
            metrics.IN_FLIGHT.set(self.pending)

    def _authenticate(self, route: Route, scope: Scope, headers: dict[bytes, bytes]) -> None:
        if self.keys is None:
            if scope["client"] is None or scope["client"][0] not in LOOPBACK:
                raise Refusal(403, "this server has no keys and answers its own machine only")
            return
        if route.role is None:
            return
        scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not key:
            raise Refusal(401, "send 'Authorization: Bearer KEY'")
        if not self.keys.allow(key.strip(), route.role):
            raise Refusal(403, f"this key does not open the role '{route.role}'")

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body; refused as soon as it is known to be too large."""
        too_large = Refusal(413, f"the body is larger than {self.limits.body_bytes} bytes")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.limits.body_bytes:
            raise too_large
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the connection closed before the body was complete")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self.limits.body_bytes:
                raise too_large
            if not message.get("more_body", False):
                return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then whatever comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(refusal: Refusal, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
    headers.append((b"content-length", str(len(refusal.body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})
