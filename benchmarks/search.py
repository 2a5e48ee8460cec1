"""The search that chose the `default` preset: one change at a time and together, on validation.

    python -m benchmarks.search --dataset ml-1m --data-dir DATA --jobs 8

Every setting trains once on the leave-one-out split until its validation NDCG@10 stops rising. Test
is never looked at. Settings and scores go to benchmarks/results/search-DATASET.json, best first.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from sasrec.config import preset
from sasrec.training import train

RESULTS = Path(__file__).parent / "results"
WHOLE = {"whole_histories": True}
WIDE = {"dim": 128, "dropout": 0.2}
# Klenitskiy & Vasilev (2023) and their successors: the best by validation of 108 settings.
PUBLISHED = {
    "dim": 256,
    "blocks": 3,
    "dropout": 0.3,
    "max_length": 128,
    "learning_rate": 1e-3,
    "batch_tokens": 16384,
    "precision": "bfloat16",
}
GRID: dict[str, list[dict[str, Any]]] = {
    "ml-1m": [
        PUBLISHED | WHOLE,
        PUBLISHED,
        WIDE | WHOLE | {"learning_rate": 2e-3},
        WIDE | WHOLE | {"feed_forward": "swiglu", "feed_forward_multiplier": 2.0},
        WIDE | WHOLE | {"positions": "newest"},
        WIDE | WHOLE | {"averaging": 0.999},
        WIDE | WHOLE | {"heads": 2},
        WIDE | WHOLE | {"dropout": 0.3},
        WIDE | WHOLE | {"position_bias": True},
        WIDE | WHOLE,
        WHOLE | {"dropout": 0.2},
        WHOLE,
        WIDE,
        {},
    ],
    "amazon-beauty-5core": [
        {"dropout": 0.5, "dim": 256, "learning_rate": 1e-3, "precision": "bfloat16"},
        {"dropout": 0.5, "dim": 128, "learning_rate": 1e-3},
        {"dropout": 0.5, "dim": 128},
        {"dropout": 0.5, "learning_rate": 1e-3},
        {"dropout": 0.5},
        {"dropout": 0.5, "weight_decay": 0.1},
        {"dropout": 0.5, "dim": 128, "heads": 2, "learning_rate": 1e-3},
        {"dropout": 0.3},
        {"dropout": 0.7, "dim": 128, "learning_rate": 1e-3},
        {},
    ],
}


def tried(dataset: str, data_dir: str | None, settings: dict[str, Any], run_dir: Path) -> Any:
    """The best validation scores of one setting, and when they were reached."""
    torch.set_num_threads(1)
    data = read(dataset, "leave-one-out", data_dir).sequences
    chosen = preset("default", **settings)
    result = train(
        data.train, data.validation, data.vocabulary, chosen.model, chosen.train, run_dir
    )
    best = result.history[result.best_epoch - 1]
    return {
        "settings": settings,
        "validation": {name: best[name] for name in ("ndcg@10", "hr@10")},
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "split_sha256": data.description["sha256"],
    }


def main() -> None:
    """Try what was not tried yet and write all down, best first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, choices=GRID)
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/search"))
    parser.add_argument("--jobs", type=int, default=1, help="settings at a time")
    arguments = parser.parse_args()
    path = RESULTS / f"search-{arguments.dataset}.json"
    found = json.loads(path.read_text())["tried"] if path.exists() else []
    known = [one["settings"] for one in found]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        futures = []
        for settings in GRID[arguments.dataset]:
            if settings not in known:
                slug = "-".join(f"{k}={v}" for k, v in settings.items()) or "default"
                run_dir = arguments.work_dir / arguments.dataset / slug
                job = (arguments.dataset, arguments.data_dir, settings, run_dir)
                futures.append(pool.submit(tried, *job))
        for future in as_completed(futures):
            found.append(future.result() | {"provenance": provenance()})
            found.sort(key=lambda one: -one["validation"]["ndcg@10"])
            path.write_text(json.dumps({"tried": found}, indent=2) + "\n")
    for one in found:
        print(f"{one['validation']['ndcg@10']:.4f}  epoch {one['best_epoch']:3}  {one['settings']}")


if __name__ == "__main__":
    main()
