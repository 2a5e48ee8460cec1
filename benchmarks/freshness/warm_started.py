"""From scratch, or from the weights of the run before: time to quality."""

from pathlib import Path
from typing import Any

from benchmarks.freshness.fitting import fit, seconds
from benchmarks.freshness.folds import Site, measure, sequences_of
from sasrec.data.splits import global_time
from sasrec.presets import Preset
from sasrec.training.loop import TrainResult

QUALITY = 0.98  # of the best validation score from scratch


def compare_starts(site: Site, chosen: Preset, run_dir: Path) -> dict[str, Any]:
    """The evaluated training begun afresh, and from the model that a run at t2 had evaluated.

    That run's own cut lies before t1, so its model has seen nothing of what judges here.
    """
    before = site.source.before(site.now)
    earlier = sequences_of(before, global_time(before.interactions, items=before.items))
    champion = fit(earlier, chosen, run_dir / "champion").recommender
    results = {
        "from scratch": fit(site.evaluated, chosen, run_dir / "scratch"),
        "from the champion": fit(site.evaluated, chosen, run_dir / "warm", warm_start=champion),
    }
    enough = QUALITY * results["from scratch"].best_ndcg
    return {
        "rows": {
            name: measure(result.recommender, site.evaluated.test)
            | {
                "validation_ndcg@10": result.best_ndcg,
                "epochs": result.best_epoch,
                "train_seconds": round(seconds(result), 1),
            }
            | _until(result, enough)
            for name, result in results.items()
        },
        "events": {"champion": len(earlier.train.items), "now": len(site.evaluated.train.items)},
    }


def _until(result: TrainResult, enough: float) -> dict[str, float]:
    """Epochs and seconds of training until validation has reached `enough`, or all there were."""
    spent = 0.0
    for line in result.history:
        spent += line["seconds"]
        if line["ndcg@10"] >= enough:
            return {"reached": 1.0, "epochs_to_quality": line["epoch"], "seconds_to_quality": spent}
    epochs = len(result.history)
    return {"reached": 0.0, "epochs_to_quality": epochs, "seconds_to_quality": spent}
