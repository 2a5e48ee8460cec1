"""All events alike, weighed by propensity, weighed by type: at the simulated shop, which has both.

A real log holds only what was served, so the last column is what no log can tell: the true
click-through of the lists that each model would serve at the end of the log.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.feedback_loop.truth import best_items
from benchmarks.freshness.fitting import fit, seconds
from benchmarks.freshness.folds import Site, measure, sequences_of
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.propensities import logged_propensities, of_histories
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias
from sasrec.data.simulated.logging_policy import SLOTS
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.recommender import Recommender
from sasrec.presets import Preset
from sasrec.scoring.vocabulary_adapter import VocabularyAdapter
from sasrec.training.losses import inverse_propensity_weights

ATTRIBUTION = timedelta(hours=24)
CLIPS = (3.0, 10.0)
CLICK, LOOKUP = "click", "lookup"
TYPE_WEIGHTS = {"clicks weigh 3": {CLICK: 3.0}, "look-ups weigh 3": {LOOKUP: 3.0}}


def compare_weights(site: Site, chosen: Preset, run_dir: Path) -> dict[str, Any]:
    """A row per way to weigh the training events; only a log with impressions can be asked."""
    data, source = site.evaluated, site.source
    logged = of_histories(
        logged_propensities(source.interactions, source.impressions, within=ATTRIBUTION),
        source.interactions,
        data.train_users,
        data.train,
    )
    weights: dict[str, np.ndarray | None] = {"all alike": None}
    for clip in CLIPS:
        weights[f"by propensity, clip {clip:g}"] = inverse_propensity_weights(logged, clip)
    weights |= {name: _by_type(site, of) for name, of in TYPE_WEIGHTS.items()}
    asked = {kind: _first_of(site, kind) for kind in (CLICK, LOOKUP)}
    shop = Storefront()
    shop.source()
    rows = {}
    for name, of_events in weights.items():
        run = run_dir / name.replace(" ", "-").replace(",", "")
        result = fit(data, chosen, run, weights=of_events)
        rows[name] = measure(result.recommender, data.test) | {
            f"{kind}_ndcg@10": measure(result.recommender, fold)["ndcg@10"]
            for kind, fold in asked.items()
        }
        rows[name] |= {
            "true_click_through": _click_through(shop, result.recommender),
            "epochs": result.best_epoch,
            "train_seconds": round(seconds(result), 1),
        }
    return {"rows": rows, "logged_share": float((~np.isnan(logged)).mean())}


def _by_type(site: Site, weights: Mapping[str, float]) -> np.ndarray:
    """(T,) of the training events."""
    interactions = site.source.interactions
    types = interactions["event_type"].to_pylist()
    of_interactions = np.array([weights.get(kind, 1.0) for kind in types], dtype=np.float32)
    data = site.evaluated
    return of_histories(of_interactions, interactions, data.train_users, data.train)


def _first_of(site: Site, kind: str) -> EvaluationSet:
    """The test fold with the events of one type alone as targets."""
    interactions = site.source.interactions
    events = interactions.filter(pc.equal(interactions["event_type"], kind))
    targets = site.split.targets
    wanted = set(zip(*(events[n].to_pylist() for n in ("user_id", "timestamp")), strict=True))
    keys = zip(*(targets[n].to_pylist() for n in ("user_id", "timestamp")), strict=True)
    targets = targets.filter(pa.array([key in wanted for key in keys]))
    asked = targets.group_by(["fold", "user_id"]).aggregate([])
    cutoffs = site.split.cutoffs
    present = set(zip(*(asked[n].to_pylist() for n in ("fold", "user_id")), strict=True))
    keys = zip(*(cutoffs[n].to_pylist() for n in ("fold", "user_id")), strict=True)
    kept = pa.array([fold == "train" or (fold, user) in present for fold, user in keys])
    split = replace(site.split, cutoffs=cutoffs.filter(kept), targets=targets)
    return sequences_of(site.source, split).test


def _click_through(shop: Storefront, model: Recommender) -> float:
    """Mean true P(interacted | served) over the slots of every user's ten best, after the log."""
    events = shop.events()
    everything = Vocabulary(shop.item_ids)
    counts = np.bincount(events.user, minlength=len(shop.user_ids))
    users = np.flatnonzero(counts)
    histories = PackedSequences(
        events.item + 1, np.concatenate([[0], np.cumsum(counts)]).astype(np.int32), events.time
    ).select(users)
    scores = (
        VocabularyAdapter(model, model.vocabulary, everything).logits(histories)[:, 1:].detach()
    )
    best = best_items(scores.numpy(), shop.crowd.eligible(users, shop.day))
    truth = np.take_along_axis(shop.crowd.click_probability(users), best, axis=1)
    return float((truth * position_bias(SLOTS)).mean())
