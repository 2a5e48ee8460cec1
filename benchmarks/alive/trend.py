"""The score with and without what everybody meets lately, beside popularity of the last days.

Cut in time. The weights are fitted on validation, by the counts at t1; the test fold is asked with
the counts at t2, where it begins. Every figure has an interval that resamples users, and so has
each difference.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.freshness.fitting import fit
from benchmarks.freshness.folds import Site
from benchmarks.provenance import provenance
from sasrec.evaluation.bootstrap import mean_intervals
from sasrec.presets import preset
from sasrec.scoring.baselines import RecentPopularity
from sasrec.scoring.decayed_counts import CountsInTime
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import next_item, target_ranks
from sasrec.scoring.scorer import Scorer
from sasrec.scoring.trend import Trending
from sasrec.scoring.trend_config import TrendConfig
from sasrec.scoring.trend_fit import fit_trend

RESULTS = Path(__file__).parents[1] / "results"
PRESETS = {"simulated": "default", "ml-100k": "default", "amazon-beauty-5core": "sparse"}
MODEL, WITH_TREND = "the model alone", "with the trend"
AT_T1, AT_T2 = "popularity of the 7 days before t1", "popularity of the 7 days before t2"


def compare(site: Site, dataset: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every row of one data set and seed, on the same users."""
    data, size = site.evaluated, len(site.evaluated.vocabulary)
    chosen = preset(PRESETS[dataset], seed=seed)
    if arguments.epochs is not None:
        chosen = chosen.with_overrides(epochs=arguments.epochs)
    trained = fit(data, chosen, arguments.work_dir / dataset / f"seed{seed}")
    model, half_lives = trained.recommender, TrendConfig().seconds
    interactions = site.source.interactions
    times = interactions["timestamp"].cast("int64").to_numpy()
    events = [(data.vocabulary.encode(interactions["item_id"]), times)]
    t1, t2 = (int(fold.histories.moments[0]) for fold in (data.validation, data.test))
    counts = CountsInTime(events, size, half_lives, since=t1)
    fitted = fit_trend(model, data.validation, counts, half_lives)
    rows = {
        MODEL: _ndcg(model, data),
        WITH_TREND: _ndcg(Trending(model, fitted.trend, counts), data),
        AT_T1: _ndcg(RecentPopularity.as_of(t1, events, data.train, size), data),
        AT_T2: _ndcg(RecentPopularity.as_of(t2, events, data.train, size), data),
    }
    return {
        "rows": {row: _figure(values) for row, values in rows.items()},
        "gain_over": {
            row: _figure(rows[WITH_TREND] - values)
            for row, values in rows.items()
            if row != WITH_TREND
        },
        "users": len(data.test),
        "best_epoch": trained.best_epoch,
        "trend": {"half_lives": half_lives, "weights": fitted.trend.weights, **fitted.findings},
        "model": chosen.model.model_dump(),
        "train": chosen.train.model_dump(),
        "split_sha256": site.split.sha256,
    }


def _ndcg(scorer: Scorer, data: Any) -> np.ndarray:
    """NDCG@10 (B,) of each test user's next item among the full catalogue without seen items."""
    asked = next_item(data.test)
    return accuracy(target_ranks(scorer, asked), asked.targets.cu_seqlens, 10)["ndcg@10"]


def _figure(values: np.ndarray) -> dict[str, float]:
    [interval] = mean_intervals(values[:, None])
    return {"ndcg@10": interval.value, "low": interval.low, "high": interval.high}


def summarise(folder: Path) -> dict[str, Any]:
    """The seeds that ran: mean and standard deviation of each row, and each seed's differences."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("trend-seed*.json"))]

    def of_rows(name: str) -> dict[str, Any]:
        found = {}
        for row in results[0][name]:
            values = [result[name][row]["ndcg@10"] for result in results]
            found[row] = {
                "mean": float(np.mean(values)),
                "std": float(np.std(values)),
                "intervals": [[r[name][row]["low"], r[name][row]["high"]] for r in results],
            }
        return found

    return {
        "seeds": [result["seed"] for result in results],
        "users": results[0]["users"],
        "rows": of_rows("rows"),
        "gain_over": of_rows("gain_over"),
        "weights": [result["trend"]["weights"] for result in results],
        "half_lives": results[0]["trend"]["half_lives"],
        "epochs": results[0]["train"]["epochs"],
        "split_sha256": results[0]["split_sha256"],
        "provenance": [result["provenance"] for result in results],
    }


def main(arguments: argparse.Namespace) -> None:
    """Fill what is missing of a data set, then sum up all there is."""
    folder = RESULTS / f"alive-{arguments.dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    site = None
    for seed in arguments.seeds:
        target = folder / f"trend-seed{seed}.json"
        if target.exists():
            continue
        site = site or Site.read(arguments.dataset, arguments.data_dir)
        result = compare(site, arguments.dataset, seed, arguments)
        result = {"seed": seed, **result, "provenance": provenance()}
        target.write_text(json.dumps(result, indent=1) + "\n")
    summary = summarise(folder)
    (RESULTS / f"alive-{arguments.dataset}.json").write_text(json.dumps(summary, indent=1) + "\n")
    table = Table(title=f"{arguments.dataset}, NDCG@10, seeds {summary['seeds']}")
    for column in ("row", "NDCG@10", "the trend's gain over it, by seed"):
        table.add_column(column)
    for row, found in summary["rows"].items():
        gains = summary["gain_over"].get(row, {}).get("intervals", [])
        told = ", ".join(f"{low:+.4f} to {high:+.4f}" for low, high in gains)
        table.add_row(row, f"{found['mean']:.4f} ± {found['std']:.4f}", told)
    Console().print(table)
