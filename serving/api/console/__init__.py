"""The console at `/`: try a user or items, click, dislike, filter, and watch the list shift.

Static files without a build step, and the read-only routes that they need.
"""

from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from serving.api.errors import Refusal
from serving.schemas import ItemId, ItemInfo, ItemList, ServingStatus, UserHistoryItem, UserId
from serving.worker.errors import HistoryAway

router = APIRouter()

# Nothing from elsewhere, so that the page works without a network and leaks nothing.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
STATIC = {
    "/": ("console.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
    "/filter.js": ("filter.js", "text/javascript"),
}


def _page(request: Request) -> Response:
    name, media_type = STATIC[request.url.path]
    content = files(__package__).joinpath(name).read_bytes()
    return Response(content, media_type=media_type, headers=SECURITY_HEADERS)


for path in STATIC:
    router.add_api_route(path, _page, methods=["GET"], include_in_schema=False)


@router.get("/v1/items")
def find_items(
    request: Request,
    item_id: Annotated[list[ItemId], Query(max_length=300)] = [],  # noqa: B006
    query: Annotated[str, Query(max_length=256)] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ItemList:
    """Titles and categories: of the ids given, else of items whose title or id has `query` in it.

    Without either, what is met the most lately, of the items that are available. Ids that the
    champion does not know are left out.
    """
    engine = request.app.state.worker.champion
    if item_id:
        indices = engine.vocabulary.encode(item_id)
        indices = indices[indices > 0].tolist()
    elif query:
        indices = engine.items.search(query, limit)
    else:
        available = engine.eligible(category=None, exclude=(), seen=())
        indices = engine.rank_popular().best(available, limit).tolist()
    return ItemList(items=[ItemInfo(**engine.describe(index)) for index in indices])


@router.get("/v1/history")
async def read_history(request: Request, user_id: UserId) -> list[UserHistoryItem]:
    """What is stored of a user, oldest first, with titles."""
    worker = request.app.state.worker
    try:
        history = await worker.stored_history(user_id)
    except HistoryAway:
        raise Refusal(503, "the online history is away") from None
    engine = worker.champion
    return [
        UserHistoryItem(item_id=item_id, title=engine.title(item_id), timestamp=timestamp)
        for item_id, timestamp in zip(history.item_ids, history.timestamps, strict=True)
    ]


@router.get("/v1/status")
def read_status(request: Request) -> ServingStatus:
    """Which versions serve whom, and what this worker has answered so far."""
    return request.app.state.worker.status()
