"""A small site that is worth watching: a storefront, a model that knows it, features, a key."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from feature_repo.publish import publish
from sasrec.data.cleaning import clean
from sasrec.data.packed import PackedSequences
from sasrec.data.simulated import Storefront
from sasrec.from_frame import fit
from sasrec.off_policy.calibration import Calibration
from serving.engine.items import write_items
from serving.monitoring.drift import TrainingSnapshot
from serving.registry import ModelStore
from serving.security import create_keys

END = datetime(2025, 7, 2, tzinfo=UTC)  # after the storefront's last day


def make_site(home: Path, scratch: Path) -> Storefront:
    """A champion trained on the storefront's log, a challenger much like it, and features.

    Returns:
        The storefront after its last day: its crowd's past is the site's log.
    """
    storefront = Storefront(seed=3, users=1500, days=40)
    source = clean(storefront.source())[0]
    frame = source.interactions.select(["user_id", "item_id", "timestamp"]).to_pandas()
    recommender = fit(
        frame, dim=32, blocks=1, heads=1, max_length=50, epochs=8, learning_rate=5e-3, dropout=0.1
    )
    model = scratch / "model"
    recommender.save(model)
    vocabulary = recommender.vocabulary
    write_items(model, vocabulary, items=source.items, interactions=source.interactions)
    histories = list(recommender.histories.values())
    packed = PackedSequences(
        np.concatenate([h.items for h in histories]),
        np.concatenate([[0], np.cumsum([len(h.items) for h in histories])]).astype(np.int32),
        np.concatenate([h.timestamps for h in histories]),
    )
    TrainingSnapshot.take(model, packed).save(model)
    # A curve of about the crowd's rates; that it fits is not what is shown here.
    Calibration([-10.0, 10.0], [0.01, 0.2], 0.25, 1000, 50).save(model)
    store = ModelStore(home / "models")
    store.promote(store.register(model, metadata={}), why="test")
    with torch.no_grad():
        recommender.model.item_embedding.weight.mul_(1.01)
    recommender.save(model)
    store.promote(store.register(model, metadata={}), role="challenger", why="test")
    publish(
        home / "feature_store",
        interactions=source.interactions,
        items=source.items,
        impressions=None,
        cutoffs=_none_of(source.interactions),
        as_of=END,
    )
    create_keys(home / "api_keys.json")
    return storefront


def _none_of(interactions: pa.Table) -> pa.Table:
    """The online store alone is read here: no cutoff of any user."""
    return pa.table({"user_id": interactions["user_id"], "cutoff": interactions["timestamp"]})[:0]
