"""The live catalogue over HTTP: what the shop says of its items."""

import secrets
import time
from typing import Annotated

import orjson
from fastapi import FastAPI, Request
from fastapi import Path as PathParameter
from pydantic import TypeAdapter

from feature_repo.event_codec import Record
from serving.api.bodies import parse, request_body
from serving.api.errors import BODY_RESPONSES, Refusal
from serving.events.writer import LogUnavailable
from serving.schemas import ItemId, ItemIds, ItemsAccepted, ItemUpdate, ItemUpdates

ITEM, BATCH = TypeAdapter(ItemUpdate), TypeAdapter(ItemUpdates)
ITEM_IDS = TypeAdapter(ItemIds)


def add_routes(app: FastAPI) -> None:
    """Add what changes items."""
    app.add_api_route(
        "/v1/items",
        put_items,
        methods=["PUT"],
        responses=BODY_RESPONSES,
        openapi_extra=request_body("Items"),
    )
    app.add_api_route(
        "/v1/items",
        delete_items,
        methods=["DELETE"],
        responses=BODY_RESPONSES,
        openapi_extra=request_body("ItemIds"),
    )
    app.add_api_route(
        "/v1/items/{item_id:path}", delete_item, methods=["DELETE"], responses=BODY_RESPONSES
    )


async def put_items(request: Request) -> ItemsAccepted:
    """Add or replace one item or a batch; 200 once they are durable.

    Every worker knows them within a second. Of a batch with an item twice the last one counts.
    """
    if await _is_batch(request):
        items = (await parse(request, BATCH)).items
    else:
        items = [await parse(request, ITEM)]
    now, update_id = _moment()
    records = {item.item_id: item.record(now=now, update_id=update_id) for item in items}
    return await _update(request, list(records.values()), accepted=len(items))


async def _is_batch(request: Request) -> bool:
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        return False  # the schema says what is wrong
    return isinstance(body, dict) and "items" in body


async def delete_items(request: Request) -> ItemsAccepted:
    """Take items out of every list, from now on; 200 once that is durable."""
    gone: ItemIds = await parse(request, ITEM_IDS)
    return await _delete(request, gone)


async def delete_item(
    request: Request, item_id: Annotated[ItemId, PathParameter(description="Of any item.")]
) -> ItemsAccepted:
    """Take one item out of every list, from now on; 200 once that is durable."""
    return await _delete(request, ItemIds(item_ids=[item_id]))


async def _delete(request: Request, gone: ItemIds) -> ItemsAccepted:
    now, update_id = _moment()
    records = gone.records(now=now, update_id=update_id)
    return await _update(request, records, accepted=len(records))


async def _update(request: Request, records: list[Record], *, accepted: int) -> ItemsAccepted:
    try:
        await request.app.state.worker.update_items(records)
    except LogUnavailable:
        raise Refusal(503, "the event log cannot take items now") from None
    return ItemsAccepted(accepted=accepted)


def _moment() -> tuple[int, str]:
    """When, in microseconds, and a name that decides between two updates at one time."""
    return time.time_ns() // 1000, secrets.token_hex(8)
