"""What refits, warm starts, item features and weights are worth, on data that has times.

    python -m benchmarks.freshness                                   # the simulated shop
    python -m benchmarks.freshness --dataset ml-100k --data-dir DATA/ml-100k
    python -m benchmarks.freshness --dataset amazon-beauty-5core --data-dir DATA/amazon-beauty-5core

Each (part, seed) is one result file; a finished one is not run again and a killed one resumes from
its checkpoints, so the command can be stopped and repeated.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.freshness import live
from benchmarks.freshness.featured import compare_features
from benchmarks.freshness.folds import Site
from benchmarks.freshness.refitted import compare_refits
from benchmarks.freshness.summary import print_table, summarise
from benchmarks.freshness.warm_started import compare_starts
from benchmarks.freshness.weighed import compare_weights
from benchmarks.provenance import provenance
from sasrec.presets import Preset, preset

RESULTS = Path(__file__).parents[1] / "results"
PRESETS = {"amazon-beauty-5core": "sparse"}
PARTS: dict[str, Callable[[Site, Preset, Path], dict[str, Any]]] = {
    "refit": compare_refits,
    "warm-start": compare_starts,
    "item-features": compare_features,
    "weights": compare_weights,
}
LIVE = "live"
# What a data set can be asked; Amazon Beauty has neither columns of items nor impressions.
OF_DATASET = {
    "simulated": [*PARTS, LIVE],
    "ml-100k": ["refit", "warm-start", "item-features"],
    "amazon-beauty-5core": ["refit", "warm-start"],
}


def write_result(part: str, seed: int, arguments: argparse.Namespace) -> None:
    """Make the result file of one part and seed, unless it is there."""
    name = f"{part}-seed{seed}"
    target = RESULTS / f"freshness-{arguments.dataset}" / f"{name}.json"
    if target.exists():
        return
    result: dict[str, Any]
    if part == LIVE:
        chosen = live.RECIPE.with_overrides(seed=seed)
        result = live.play(seed)
    else:
        site = Site.read(arguments.dataset, arguments.data_dir)
        chosen = preset(PRESETS.get(arguments.dataset, "default"), seed=seed)
        result = PARTS[part](site, chosen, arguments.work_dir / arguments.dataset / name)
        result["split_sha256"] = site.split.sha256
    result = {
        "part": part,
        "seed": seed,
        **result,
        "model": chosen.model.model_dump(),
        "train": chosen.train.model_dump(),
        "provenance": provenance(),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Fill what is missing, then sum up all there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=OF_DATASET, default="simulated")
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="+", choices=[*PARTS, LIVE], help="all by default")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/freshness"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts or OF_DATASET[arguments.dataset]:
        for seed in arguments.seeds:
            write_result(part, seed, arguments)
    summary = summarise(RESULTS / f"freshness-{arguments.dataset}")
    path = RESULTS / f"freshness-{arguments.dataset}.json"
    path.write_text(json.dumps(summary, indent=1) + "\n")
    print_table(arguments.dataset, summary)


if __name__ == "__main__":
    main()
