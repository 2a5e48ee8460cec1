"""A site of a given size to measure on: random weights, users with a past, keys."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import torch

from feature_repo.publish import publish
from sasrec.data.schema import INTERACTIONS, ITEMS
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.engine import golden
from serving.engine.items import write_items
from serving.registry import ModelStore
from serving.security import create_keys

HISTORIES = (50, 200)
USERS = 500  # of each length of history
BODIES = 2_000
K = 10
CATEGORIES = 20


@dataclass(frozen=True)
class Site:
    """Where it is and how to ask it.

    Attributes:
        model: the folder of the champion.
        key: opens every route.
    """

    home: Path
    items: int
    model: Path
    key: str

    def bodies(self, history: int, *, stored: bool) -> Path:
        """A file of request bodies, one a line, for histories of this many items.

        Args:
            stored: the online store has the history; else the request, whose user is unknown.
        """
        path = self.home / f"bodies-{history}-{'stored' if stored else 'sent'}.jsonl"
        rng = np.random.default_rng(history)
        with path.open("wb") as file:
            for number in range(BODIES):
                if stored:
                    body = {"user_id": user_name(history, number % USERS), "k": K}
                else:
                    recent = [item_name(i) for i in rng.integers(0, self.items, history)]
                    body = {"user_id": f"visitor-{number}", "recent_items": recent, "k": K}
                file.write(orjson.dumps(body) + b"\n")
        return path


def item_name(index: int) -> str:
    """The id of an item."""
    return f"item-{index:07d}"


def user_name(history: int, number: int) -> str:
    """The id of a user whose stored history has `history` events."""
    return f"user-{history}-{number}"


def build_site(home: Path, items: int) -> Site:
    """A published, promoted site of `items` items; its model is plain, of the default width."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    interactions = _interactions(items, now)
    catalogue = pa.table(
        {
            "item_id": [item_name(i) for i in range(items)],
            "title": [f"Item {i}" for i in range(items)],
            "category": [f"category-{i % CATEGORIES}" for i in range(items)],
            "created_at": [now] * items,
        },
        schema=ITEMS,
    )
    publish(
        home / "feature_store",
        interactions=interactions,
        items=None,
        impressions=None,
        cutoffs=pa.table({"user_id": pa.array([], pa.string()), "cutoff": _times([])}),
        as_of=now,
    )
    draft = _save_model(home / "draft", items, catalogue, interactions)
    some = [item_name(i) for i in range(5)]
    store = ModelStore(home / "models")
    version = store.register(
        draft, metadata={}, golden=golden.record(draft, [some], [list(range(5))])
    )
    shutil.rmtree(draft)
    store.promote(version, why="benchmark")
    [key] = create_keys(home / "api_keys.json").admin
    return Site(home, items, store.path(version), key)


def _save_model(folder: Path, items: int, catalogue: pa.Table, interactions: pa.Table) -> Path:
    torch.manual_seed(0)
    model = SASRec(ModelConfig(), items)
    torch.nn.init.normal_(model.item_embedding.weight)  # fresh weights score everything alike
    vocabulary = Vocabulary(catalogue["item_id"].to_pylist())
    Recommender(model, vocabulary).save(folder)
    write_items(folder, vocabulary, items=catalogue, interactions=interactions)
    return folder


def _interactions(items: int, end: datetime) -> pa.Table:
    rng = np.random.default_rng(0)
    users = [
        user_name(length, n) for length in HISTORIES for n in range(USERS) for _ in range(length)
    ]
    past = [second for length in HISTORIES for _ in range(USERS) for second in range(length, 0, -1)]
    return pa.table(
        {
            "user_id": users,
            "item_id": [item_name(i) for i in rng.integers(0, items, len(users))],
            "timestamp": _times([end - timedelta(seconds=second) for second in past]),
            "event_type": ["view"] * len(users),
            "value": pa.nulls(len(users), pa.float32()),
            "sequence": np.arange(len(users)),
        },
        schema=INTERACTIONS,
    )


def _times(values: list[datetime]) -> pa.Array:
    return pa.array(values, pa.timestamp("us", tz="UTC"))
