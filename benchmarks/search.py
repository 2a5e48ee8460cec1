"""The search that chose the `default` preset: one change at a time and together, on validation.

    python -m benchmarks.search --dataset ml-1m --data-dir DATA --jobs 8

It is the search of `pipeline.py tune` (`sasrec/tuning/`) over a list of settings, none given up:
each trains once on the leave-one-out split until its validation NDCG@10 stops rising, and a killed
command goes on. Test is never looked at. Settings and scores go to
benchmarks/results/search-DATASET.json, best first.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import CategoricalDistribution

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from benchmarks.workers import workers
from sasrec.presets import Preset, named, with_sections
from sasrec.training.loop import TrainResult, train
from sasrec.tuning.search import Search
from sasrec.tuning.space import Space

RESULTS = Path(__file__).parent / "results"
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


def searched(dataset: str, folder: Path, worker: int = 0) -> Search:
    """The study of a data set: the choices are those that its settings name."""
    start = named("default").with_overrides(**START)
    tried = [with_sections(settings) for settings in GRID[dataset]]
    choices = {key: [start.flat()[key]] for settings in tried for key in settings}
    for settings in tried:
        for key, value in settings.items():
            choices[key] += [value] if value not in choices[key] else []
    space = Space({key: CategoricalDistribution(values) for key, values in choices.items()})
    search = Search(folder, start, space, worker=worker, prune=False)
    if worker == 0:
        search.queue(tried)
    return search


def work(dataset: str, data_dir: str | None, study: Path, worker: int) -> None:
    """Train what is left, one setting after another."""
    torch.set_num_threads(1)
    data = read(dataset, "leave-one-out", data_dir).sequences

    def train_one(
        preset: Preset, folder: Path, stop: Callable[[Mapping[str, Any]], bool]
    ) -> TrainResult:
        return train(
            data.train,
            data.validation,
            data.vocabulary,
            preset.model,
            preset.train,
            folder,
            stop=stop,
        )

    searched(dataset, study, worker).run(train_one, trials=len(GRID[dataset]))


def summary(search: Search) -> list[dict[str, Any]]:
    """What all settings came to, best first; one that was stopped counts as far as it came."""
    about = provenance()
    found = [
        {
            "settings": {
                key.partition(".")[2]: value
                for key, value in tried.settings.items()
                if value != search.space.values_of(search.start)[key]
            },
            "provenance": about,
            "validation": {"ndcg@10": tried.ndcg, "hr@10": tried.hr},
            "best_epoch": tried.best_epoch,
            "epochs": tried.epochs,
        }
        for tried in search.tried
        if tried.ndcg is not None
    ]
    return sorted(found, key=lambda one: -one["validation"]["ndcg@10"])


def main() -> None:
    """Try all and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, choices=GRID)
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/search"))
    parser.add_argument("--jobs", type=int, default=1, help="settings at a time")
    parser.add_argument("--no-training", action="store_true", help="only read what there is")
    arguments = parser.parse_args()
    folder = arguments.work_dir / arguments.dataset
    search = searched(arguments.dataset, folder)
    if not arguments.no_training:
        jobs = [
            (arguments.dataset, arguments.data_dir, folder, worker)
            for worker in range(arguments.jobs)
        ]
        with workers(arguments.jobs) as pool:
            list(pool.map(work, *zip(*jobs, strict=True)))
    found = summary(search)
    path = RESULTS / f"search-{arguments.dataset}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    for one in found:
        print(f"{one['validation']['ndcg@10']:.4f}  epoch {one['best_epoch']:3}  {one['settings']}")


if __name__ == "__main__":
    main()
