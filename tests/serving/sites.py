"""Small sites to serve: a model of 60 items, its golden requests, and keys of every role."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import torch

from sasrec.data.schema import INTERACTIONS, ITEMS
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from serving.engine import golden
from serving.engine.items import write_items
from serving.registry import ModelStore
from serving.security import ApiKeys

NUM_ITEMS = 60
ITEM_IDS = [f"item-{number}" for number in range(NUM_ITEMS)]
KEYS = ApiKeys(
    recommend=["key-r"],
    events=["key-e"],
    catalogue=["key-c"],
    metrics=["key-m"],
    admin=["key-a"],
)


def save_model(directory: Path, seed: int) -> Path:
    """A small model of items with attributes, and popularity falling with the item number."""
    torch.manual_seed(seed)
    config = ModelConfig(dim=16, blocks=2, heads=2, max_length=20)
    vocabulary = Vocabulary(ITEM_IDS)
    model = SASRec(config, NUM_ITEMS)
    # Fresh weights score everything alike: spread them, so that answers differ between models.
    torch.nn.init.normal_(model.item_embedding.weight)
    Recommender(model, vocabulary).save(directory)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    items = pa.table(
        {
            "item_id": ITEM_IDS,
            "title": [f"Title {number}" for number in range(NUM_ITEMS)],
            "category": ["books" if number % 3 == 0 else "films" for number in range(NUM_ITEMS)],
            "created_at": [now] * NUM_ITEMS,
        },
        schema=ITEMS,
    )
    attributes = {
        "price": [number / 2 for number in range(NUM_ITEMS)],
        "brand": [f"b{number % 4}" + "|b4" * (number % 5 == 0) for number in range(NUM_ITEMS)],
        "sale": [number % 2 == 0 if number % 7 else None for number in range(NUM_ITEMS)],
    }
    for name, values in attributes.items():
        items = items.append_column(name, pa.array(values))
    rows = [
        {
            "user_id": f"user-{user}",
            "item_id": ITEM_IDS[number],
            "timestamp": now - timedelta(seconds=user),
            "event_type": "click",
            "value": None,
            "sequence": user,
        }
        for number in range(NUM_ITEMS)
        for user in range(NUM_ITEMS - number)
    ]
    write_items(
        directory,
        vocabulary,
        items=items,
        interactions=pa.Table.from_pylist(rows, schema=INTERACTIONS),
    )
    return directory


def register(home: Path, scratch: Path, seed: int, **metadata: object) -> str:
    """A version of the site's store, with golden requests."""
    model_dir = save_model(scratch / f"model-{seed}", seed)
    histories = [ITEM_IDS[:3], ITEM_IDS[10:11], []]
    times = [[1, 2, 3], [5], []]
    return ModelStore(home / "models").register(
        model_dir,
        metadata={"metrics": {"ndcg@10": 0.1 * seed}, **metadata},
        golden=golden.record(model_dir, histories, times),
    )
