"""What a refused request is told: a code and a field, never what was sent."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from serving.schemas import Problem

Responses = dict[int | str, dict[str, Any]]
RESPONSES: Responses = {
    401: {"model": Problem, "description": "No key was presented."},
    403: {"model": Problem, "description": "The key does not open this route."},
    422: {"model": Problem, "description": "The request breaks the schema."},
    503: {"model": Problem, "description": "Try again after Retry-After seconds."},
}
# Of routes that take a body.
BODY_RESPONSES = RESPONSES | {
    413: {"model": Problem, "description": "The body is too large."},
    415: {"model": Problem, "description": "The body is not application/json."},
}
NOT_FOUND: Responses = {
    404: {"model": Problem, "description": "The model does not know what was named."},
}


class Refusal(Exception):
    """A request that is answered with an error, in the body of `serving.schemas.Problem`."""

    def __init__(
        self, status: int, error: str, field: str | None = None, reason: str | None = None
    ) -> None:
        super().__init__(error)
        self.status, self.error, self.field, self.reason = status, error, field, reason

    @property
    def body(self) -> bytes:
        """What the client reads, as JSON."""
        reason = {} if self.reason is None else {"reason": self.reason}
        return orjson.dumps({"error": self.error, "field": self.field} | reason)

    @property
    def headers(self) -> dict[str, str]:
        """Those that belong to the status, lower case."""
        headers = {"content-type": "application/json"}
        if self.status in (429, 503):
            headers["retry-after"] = "1"
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


def install_handlers(app: FastAPI) -> None:
    """Answer refusals, and parameters that FastAPI refuses, with a `Problem`.

    Where a method is not allowed, name all that are: the router names those of one route, and a
    path may have several.
    """
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _say_what_is_allowed)


async def _refuse(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return Response(refusal.body, refusal.status, refusal.headers)


async def _refuse_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    refusal = Refusal(422, first["type"], str(first["loc"][-1]), first["msg"])
    return await _refuse(request, refusal)


async def _say_what_is_allowed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(sorted(set(_methods(request.app.routes, request.scope))))
        error = HTTPException(405, error.detail, {"Allow": allowed})
    return await http_exception_handler(request, error)


def _methods(routes: Iterable[BaseRoute], scope: Scope) -> Iterator[str]:
    for route in routes:
        included = getattr(route, "original_router", None)  # as FastAPI keeps what it includes
        if included is not None:
            yield from _methods(included.routes, scope)
        elif route.matches(scope)[0] is not Match.NONE:
            yield from getattr(route, "methods", None) or ()
