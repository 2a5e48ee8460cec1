"""The search that chose the `default` preset: one change at a time and together, on validation.

    python -m benchmarks.search --dataset ml-1m --data-dir DATA --jobs 8

Every setting trains once on the leave-one-out split until its validation NDCG@10 stops rising. Test
is never looked at. Settings and scores go to benchmarks/results/search-DATASET.json, best first.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from benchmarks.workers import workers
from sasrec.presets import preset
from sasrec.progress import LOG
from sasrec.training.loop import train

RESULTS = Path(__file__).parent / "results"
SETTINGS = "settings.json"
# The winner of each round is what the next one starts from.
WHOLE = {"whole_histories": True}
WIDE = {"dim": 128, "dropout": 0.2}
BIAS = {"position_bias": True, "heads": 2}
SWIGLU = {"feed_forward": "swiglu", "feed_forward_multiplier": 2.0}
ALL = WHOLE | BIAS | SWIGLU
SHOP = ALL | {"max_length": 50, "dropout": 0.5}
COSINE = {"cosine_temperature": 0.05}
TIMED = SHOP | COSINE | {"time_bias": True}
GRID: dict[str, list[dict[str, Any]]] = {
    "ml-1m": [
        WIDE | WHOLE,
        WIDE | WHOLE | {"learning_rate": 2e-3},
        WIDE | WHOLE | {"averaging": 0.999},
        WIDE | WHOLE | {"positions": "newest"},
        WIDE | WHOLE | {"dropout": 0.3},
        WIDE | WHOLE | {"heads": 2},
        WIDE | WHOLE | {"position_bias": True},
        WIDE | WHOLE | SWIGLU,
        WIDE | WHOLE | BIAS,
        WIDE | ALL,
        WIDE | ALL | {"averaging": 0.999},
        WIDE | ALL | {"dropout": 0.3},
        WIDE | ALL | {"heads": 4},
        WIDE | ALL | {"blocks": 3},
        WIDE | ALL | {"cosine_temperature": 0.07},
        ALL | {"dropout": 0.1},
        ALL | {"dropout": 0.2},
    ],
    "amazon-beauty-5core": [
        {"dropout": 0.5},
        {"dropout": 0.5, "learning_rate": 1e-3},
        {"dropout": 0.5, "dim": 128},
        {"dropout": 0.5, "dim": 128, "learning_rate": 1e-3},
        SHOP,
        SHOP | {"dim": 256, "learning_rate": 1e-3, "precision": "bfloat16"},
        SHOP | COSINE | {"dim": 128},
        TIMED,
        TIMED | {"dim": 128, "dropout": 0.6},
        TIMED | {"dropout": 0.6},
        TIMED | {"attention_dropout": 0.2},
        TIMED | {"averaging": 0.999, "patience": 15},
        TIMED | {"learning_rate": 2e-3},
        TIMED | {"cosine_temperature": 0.07},
        TIMED | {"blocks": 1},
        TIMED | {"weight_decay": 0.1},
        TIMED | {"blocks": 1, "weight_decay": 0.3},
        TIMED | {"blocks": 1, "weight_decay": 1.0},
        TIMED | {"blocks": 1, "weight_decay": 0.3, "dim": 128, "dropout": 0.6},
        TIMED | {"blocks": 1, "weight_decay": 0.1, "cosine_temperature": 0.07},
        TIMED | {"blocks": 1, "weight_decay": 0.1, "cosine_temperature": 0.07, "dropout": 0.6},
        TIMED | {"weight_decay": 0.3, "cosine_temperature": 0.07},
    ],
}
# What every setting starts from: the plain model of this width, trained as the presets are.
START = {
    "heads": 1,
    "position_bias": False,
    "feed_forward": "relu",
    "feed_forward_multiplier": 1.0,
    "whole_histories": False,
}


def tried(dataset: str, data_dir: str | None, settings: dict[str, Any], run_dir: Path) -> None:
    """Train one setting, or go on where it was stopped."""
    torch.set_num_threads(1)
    run_dir.mkdir(parents=True, exist_ok=True)
    about = {"settings": settings, "provenance": provenance()}
    (run_dir / SETTINGS).write_text(json.dumps(about))
    data = read(dataset, "leave-one-out", data_dir).sequences
    chosen = preset("default", **START | settings)
    train(data.train, data.validation, data.vocabulary, chosen.model, chosen.train, run_dir)


def summary(work_dir: Path) -> list[dict[str, Any]]:
    """What the logs of all settings say, best first; a run that was stopped counts as far as it
    came."""
    found = []
    for path in work_dir.glob(f"*/{LOG}"):
        history = [json.loads(line) for line in path.read_text().splitlines()]
        if history:
            best = max(history, key=lambda line: line["ndcg@10"])
            found.append(
                {
                    **json.loads((path.parent / SETTINGS).read_text()),
                    "validation": {name: best[name] for name in ("ndcg@10", "hr@10")},
                    "best_epoch": best["epoch"],
                    "epochs": len(history),
                }
            )
    return sorted(found, key=lambda one: -one["validation"]["ndcg@10"])


def main() -> None:
    """Try all and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, choices=GRID)
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/search"))
    parser.add_argument("--jobs", type=int, default=1, help="settings at a time")
    parser.add_argument("--no-training", action="store_true", help="only read the logs there are")
    arguments = parser.parse_args()
    work_dir = arguments.work_dir / arguments.dataset
    if not arguments.no_training:
        jobs = [
            (arguments.dataset, arguments.data_dir, settings, work_dir / slug(settings))
            for settings in GRID[arguments.dataset]
        ]
        with workers(arguments.jobs) as pool:
            list(pool.map(tried, *zip(*jobs, strict=True)))
    found = summary(work_dir)
    path = RESULTS / f"search-{arguments.dataset}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    for one in found:
        print(f"{one['validation']['ndcg@10']:.4f}  epoch {one['best_epoch']:3}  {one['settings']}")


def slug(settings: dict[str, Any]) -> str:
    """A folder's name."""
    return ",".join(f"{name}={value}" for name, value in settings.items()) or "default"


if __name__ == "__main__":
    main()
