"""Ids alone, or with features of the items: all next items, and those without a training event."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.freshness.fitting import fit, seconds
from benchmarks.freshness.folds import Site, first_targets, measure, of_users, sequences_of
from sasrec.data.packed import EvaluationSet
from sasrec.model.item_features import ItemFeatures, described_items, feature_columns
from sasrec.presets import Preset

BUCKETS = 1024
TITLE = "title:words"


def compare_features(site: Site, chosen: Preset, run_dir: Path) -> dict[str, Any]:
    """A row without features, with the columns chosen by themselves, with the title's words too.

    All three are asked about the same users; a vocabulary with features holds every described item.
    """
    items = site.source.items
    columns = feature_columns(items, None)
    offered = {"ids alone": [], "automatic": columns}
    if items["title"].null_count < len(items):
        offered["automatic and words of the title"] = [*columns, TITLE]
    users, rows = site.evaluated.test.user_ids, {}
    for name, used in offered.items():
        data, options, recipe = site.evaluated, {}, chosen
        if used:
            known = sorted({*site.split.known_items, *described_items(items, used)})
            data = sequences_of(site.source, replace(site.split, known_items=known))
            features = ItemFeatures.of(items, data.vocabulary, columns=used, buckets=BUCKETS)
            options = {"item_features": features}
            recipe = chosen.with_overrides(feature_buckets=BUCKETS)
        result = fit(data, recipe, run_dir / name.replace(" ", "-"), **options)
        test = of_users(data.test, users)
        met = np.bincount(data.train.items, minlength=len(data.vocabulary) + 1) > 0
        cold = _of_cold_items(test, met)
        figures = measure(result.recommender, cold)
        rows[name] = measure(result.recommender, test) | {
            "cold_ndcg@10": figures["ndcg@10"],
            "cold_hr@10": figures["hr@10"],
            "cold_users": len(cold),
            "items": len(data.vocabulary),
            "epochs": result.best_epoch,
            "train_seconds": round(seconds(result), 1),
        }
    return {"rows": rows, "columns": columns}


def _of_cold_items(evaluation: EvaluationSet, met: np.ndarray) -> EvaluationSet:
    """The users whose first target is an item without a training event."""
    rows = np.flatnonzero(~met[first_targets(evaluation.targets)])
    return EvaluationSet(
        evaluation.name,
        [evaluation.user_ids[row] for row in rows.tolist()],
        evaluation.histories.select(rows),
        evaluation.targets.select(rows),
    )
