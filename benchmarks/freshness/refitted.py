"""As evaluated, refit from scratch, refit by continuing: the same users, the same recipe."""

from pathlib import Path
from typing import Any

from benchmarks.freshness.fitting import fit, refit, seconds
from benchmarks.freshness.folds import Site, first_targets, measure, of_users
from sasrec.data.vocabulary import PADDING
from sasrec.presets import Preset
from sasrec.training.loop import TrainResult

CONTINUED = (1, 2, 4)  # epochs


def compare_refits(site: Site, chosen: Preset, run_dir: Path) -> dict[str, Any]:
    """A row per way to ship the recipe, at the users whom the evaluated model can answer.

    The evaluated model learns from what was before t1 and validation chooses its epoch; a refit
    learns from all before t2, where the test fold begins.
    """
    evaluated = site.evaluated
    first = fit(evaluated, chosen, run_dir / "evaluated")
    everything = site.learning_until(site.now)
    test = of_users(everything.test, evaluated.test.user_ids)
    epochs = first.best_epoch
    same_steps = max(1, round(epochs * len(evaluated.train.items) / len(everything.train.items)))
    rows = {"as evaluated": _row(first, measure(first.recommender, evaluated.test), epochs)}
    for name, count in {"the same epochs": epochs, "the same steps": same_steps}.items():
        result = refit(everything, chosen, count, run_dir / f"scratch-{count}")
        name = f"refit from scratch, {name}"
        rows[name] = _row(result, measure(result.recommender, test), count)
    for count in CONTINUED:
        result = refit(
            everything, chosen, count, run_dir / f"continued-{count}", start=first.recommender
        )
        name = f"refit by continuing, {count} epochs"
        rows[name] = _row(result, measure(result.recommender, test), count)
    return {
        "rows": rows,
        "users": len(test),
        "events": {"evaluated": len(evaluated.train.items), "refit": len(everything.train.items)},
        "unknown_first_targets": {
            "evaluated": float((first_targets(evaluated.test.targets) == PADDING).mean()),
            "refit": float((first_targets(test.targets) == PADDING).mean()),
        },
    }


def _row(result: TrainResult, figures: dict[str, float], epochs: int) -> dict[str, Any]:
    return figures | {"epochs": epochs, "train_seconds": round(seconds(result), 1)}
