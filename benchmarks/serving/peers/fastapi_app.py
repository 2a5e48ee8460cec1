"""Plain FastAPI: `uvicorn benchmarks.serving.peers.fastapi_app:app --workers 2`.

The endpoint is a coroutine that computes in place. That gives a plain application its most requests
per second: a `def` endpoint pays for a thread of Starlette's pool each time.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from pydantic import BaseModel

from benchmarks.serving.peers.ranking import Ranker


class Query(BaseModel):
    """The fields of our request that a peer understands."""

    user_id: str
    recent_items: list[str]
    k: int = 10


class Item(BaseModel):
    """One slot."""

    item_id: str
    score: float


class Answer(BaseModel):
    """A list."""

    items: list[Item]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model when the worker starts."""
    app.state.ranker = Ranker()
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def ready() -> None:
    """The model is loaded."""


@app.post("/v1/recommend")
async def recommend(query: Query, request: Request) -> Answer:
    """The best next items."""
    found = request.app.state.ranker.rank(query.recent_items, query.k)
    return Answer(items=[Item(**item) for item in found])
