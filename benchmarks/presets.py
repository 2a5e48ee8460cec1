"""Whether `--preset auto` is ever worse than `default`: both on one data set, several seeds.

    python -m benchmarks.presets --dataset ml-100k --split leave-one-out --data-dir DATA
    python -m benchmarks.presets --dataset simulated
    python -m benchmarks.presets --dataset amazon-grocery/interactions.csv

Where the data choose `default` as it is, that is the result: nothing is trained. Figures are of
validation, so that test stays unread; they go to benchmarks/results/presets-NAME-SPLIT.json. A
killed command goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from sasrec.presets import PRESETS
from sasrec.presets.auto import AUTO, DataFacts, choose
from sasrec.training.loop import train

RESULTS = Path(__file__).parent / "results"


def compared(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was chosen and why, and NDCG@10 on validation of each preset and seed."""
    found = read(arguments.dataset, arguments.split, arguments.data_dir)
    data = found.sequences
    timed = found.report.clock == "real"
    choice = choose(DataFacts.of(data.train.lengths, len(data.vocabulary), timed=timed))
    presets = {"default": PRESETS["default"], AUTO: choice.preset}
    result: dict[str, Any] = {"choice": choice.to_dict(), "seeds": arguments.seeds}
    if presets[AUTO] == presets["default"]:
        return result
    for name, preset in presets.items():
        result[name] = []
        for seed in arguments.seeds:
            chosen = preset.with_overrides(seed=seed)
            folder = arguments.work_dir / slug(arguments) / f"{name}-{seed}"
            trained = train(
                data.train, data.validation, data.vocabulary, chosen.model, chosen.train, folder
            )
            result[name].append({"ndcg@10": trained.best_ndcg, "best_epoch": trained.best_epoch})
            print(f"{name} seed {seed}: {trained.best_ndcg:.4f}", flush=True)
    return result


def slug(arguments: argparse.Namespace) -> str:
    """Of data set and split, for the names of files."""
    path = Path(arguments.dataset)
    return f"{path.parent.name or path.stem}-{arguments.split}"


def main() -> None:
    """Compare, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="global-time", choices=["global-time", "leave-one-out"])
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work-dir", type=Path, default=Path("runs/presets"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = compared(arguments) | {"provenance": provenance()}
    (RESULTS / f"presets-{slug(arguments)}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
