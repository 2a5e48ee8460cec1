"""The HTTP interface: routes, their OpenAPI document, and what errors look like."""

import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, TypeAdapter

from feature_repo.event_times import too_old
from sasrec.errors import DataError
from serving import metrics
from serving.api import catalogue, console
from serving.api.bodies import parse, request_body
from serving.api.document import openapi_of
from serving.api.errors import (
    BODY_RESPONSES,
    NOT_FOUND,
    RESPONSES,
    Refusal,
    Responses,
    install_handlers,
)
from serving.api.guard import Guard, Limits
from serving.events.writer import LogUnavailable
from serving.filters import FilterError, Kind
from serving.registry import RegistryError
from serving.schemas import (
    BatchRequest,
    BatchResponse,
    Events,
    EventsAccepted,
    RecommendRequest,
    RecommendResponse,
    SimilarRequest,
    SimilarResponse,
)
from serving.security import ApiKeys
from serving.settings import Settings
from serving.worker.errors import Busy

STARTUP_FAILURE = "sasrec: cannot serve: "
# How long a thread may keep the interpreter from another one that wants it. Each of a model's
# operations gives it up, so beside a busy event loop one encoding would wait some forty times: with
# Python's 5 ms that is 0.2 s instead of 0.2 ms, and the more is refused the less is answered.
SWITCH_SECONDS = 0.0002


def create_app(settings: Settings) -> FastAPI:
    """The application of one worker; it loads its model when the server starts it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Here and not above: the supervisor imports this module too, and needs no torch.
        import torch

        from serving.worker.worker import Worker

        torch.set_num_threads(1)
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            worker = Worker(settings)
        except (RegistryError, DataError, OSError) as error:
            # On a line of its own for whoever started this process (`serving.release.processes`).
            print(f"{STARTUP_FAILURE}{error}", file=sys.stderr, flush=True)
            raise
        app.state.worker = worker
        # What was loaded lives as long as the process: no collection need look at it again.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            worker.close()

    app = FastAPI(
        title="sasrec-pipeline",
        description="Next-item recommendations with logged propensities.",
        lifespan=lifespan,
    )
    app.add_middleware(
        Guard,
        keys=None if settings.insecure else ApiKeys.load(settings.api_keys_file),
        limits=Limits(body_bytes=settings.max_body_bytes, pending=settings.max_pending),
    )
    install_handlers(app)
    _add(app, "/v1/recommend", recommend, RecommendRequest, RecommendResponse)
    _add(app, "/v1/recommend/batch", recommend_batch, BatchRequest, BatchResponse)
    _add(app, "/v1/similar", similar, SimilarRequest, SimilarResponse, responses=NOT_FOUND)
    _add(app, "/v1/events", record_events, Events, EventsAccepted, status=202)
    catalogue.add_routes(app)
    app.include_router(console.router, responses=RESPONSES)
    app.openapi = openapi_of(app, lambda: _kinds(app))  # type: ignore[method-assign]
    app.add_api_route("/metrics", read_metrics, methods=["GET"], include_in_schema=False)
    return app


def _add(
    app: FastAPI,
    path: str,
    handler: Callable[[Request], Awaitable[Response]],
    asked: type[BaseModel],
    answered: type[BaseModel],
    *,
    status: int = 200,
    responses: Responses | None = None,
) -> None:
    """Add a route that takes a body.

    The first of the two answers, and FastAPI's own documents it: what that does around a handler
    that reads and writes JSON by itself would cost a tenth of a recommendation.
    """
    app.add_route(path, handler, methods=["POST"])
    app.add_api_route(
        path,
        handler,
        methods=["POST"],
        status_code=status,
        response_model=answered,
        responses=BODY_RESPONSES | (responses or {}),
        openapi_extra=request_body(asked.__name__),
    )


def _kinds(app: FastAPI) -> Mapping[str, Kind]:
    """Of the attributes of items as this worker knows them; of none before it has started."""
    worker = getattr(app.state, "worker", None)
    return {} if worker is None else worker.champion.kinds


RECOMMEND_REQUEST = TypeAdapter(RecommendRequest)
BATCH_REQUEST = TypeAdapter(BatchRequest)
SIMILAR_REQUEST = TypeAdapter(SimilarRequest)
EVENTS: TypeAdapter[Events] = TypeAdapter(Events)


async def recommend(request: Request) -> Response:
    """The best next items for a user, a list of recent items, or both."""
    query: RecommendRequest = await parse(request, RECOMMEND_REQUEST)
    try:
        answer = await request.app.state.worker.recommend(query)
    except Busy:
        raise Refusal(503, "busy; try again") from None
    except FilterError as error:
        raise _bad_rule(error) from None
    return Response(orjson.dumps(answer.response()), media_type="application/json")


async def recommend_batch(request: Request) -> Response:
    """The best next items for up to 500 users or lists of recent items."""
    batch: BatchRequest = await parse(request, BATCH_REQUEST)
    try:
        answers = await request.app.state.worker.recommend_batch(batch.requests)
    except Busy:
        raise Refusal(503, "busy; try again") from None
    except FilterError as error:
        raise _bad_rule(error) from None
    content = orjson.dumps({"answers": [answer.response() for answer in answers]})
    return Response(content, media_type="application/json")


async def similar(request: Request) -> Response:
    """The items nearest to one. These lists are not explored, and not logged."""
    query: SimilarRequest = await parse(request, SIMILAR_REQUEST)
    try:
        found = request.app.state.worker.similar(query)
    except KeyError:
        raise Refusal(404, "the model knows no such item", "item_id") from None
    except FilterError as error:
        raise _bad_rule(error) from None
    return Response(found.model_dump_json(), media_type="application/json")


def _bad_rule(error: FilterError) -> Refusal:
    return Refusal(422, "filter", ".".join(map(str, error.path)), error.reason)


async def record_events(request: Request) -> Response:
    """Take one event or a batch; 202 once they are durable and visible."""
    events: Events = await parse(request, EVENTS)
    settings, now = request.app.state.worker.settings, time.time_ns() // 1000
    retention = timedelta(days=settings.retention_days)
    for number, event in enumerate(events.batch()):
        if too_old(event.record(received_at=now)["timestamp"], now, retention):
            field = f"events.{number}.timestamp" if len(events.batch()) > 1 else "timestamp"
            reason = f"lies more than {settings.retention_days:g} days back"
            raise Refusal(422, "too_old", field, reason)
    try:
        await request.app.state.worker.record(events.batch())
    except LogUnavailable:
        raise Refusal(503, "the event log cannot take events now") from None
    return Response(
        EventsAccepted(accepted=len(events.batch())).model_dump_json(),
        status_code=202,
        media_type="application/json",
    )


def read_metrics() -> Response:
    """Prometheus exposition over all workers."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
