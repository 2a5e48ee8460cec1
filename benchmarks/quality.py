"""The quality table: every preset, every loss and the baselines on one data set, several seeds.

    python -m benchmarks.quality --dataset ml-1m --data-dir DATA
    python -m benchmarks.quality --dataset amazon-beauty-5core --data-dir DATA

Each (row, seed) is one result file; a finished one is not run again and a killed one resumes from
its checkpoint, so the command can be stopped and repeated. The table says which seeds it holds.
Epochs and settings are chosen on validation alone; test is read once, by the model that validation
chose.
"""

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.provenance import provenance
from benchmarks.published import BEST_SASREC
from benchmarks.real_sequences import read
from benchmarks.workers import workers
from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import EvaluationSet
from sasrec.presets import preset
from sasrec.progress import LOG
from sasrec.scoring.baselines import BigramMarkov, Popularity, RecentPopularity
from sasrec.scoring.metrics import accuracy
from sasrec.scoring.ranking import next_item, target_ranks
from sasrec.scoring.scorer import Scorer
from sasrec.training.loop import train

RESULTS = Path(__file__).parent / "results"
PAPER_NEGATIVES = 100
METRICS = ("ndcg@10", "hr@10")
GLOBAL_TIME = ", global-time"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    preset: str
    overrides: dict[str, Any] = field(default_factory=dict)


BASELINES = {
    "popularity": Popularity,
    "recent popularity": RecentPopularity,
    "bigram Markov": BigramMarkov,
}
BASELINES |= {name + GLOBAL_TIME: baseline for name, baseline in BASELINES.items()}
# The rows that compare losses are the paper's model and differ in nothing but the loss: they are
# trained at the rate and step of `default`, which came to a score in a fourth of the paper's epochs
# (BCE, MovieLens-1M), and those that sample negatives share 512 of them. They wait longer than
# `default`: BCE learns popularity alone at first.
LOSSES = ("bpr", "bce", "gbce", "sampled_softmax", "cross_entropy")
_LOSS_ROW = {
    "learning_rate": 4e-3,
    "batch_tokens": 4096,
    "patience": 30,
    "negatives": 512,
    "shared_negatives": True,
}
MODELS = {
    "default": Row("default"),
    "large": Row("large"),
    "sparse": Row("sparse"),
    "paper": Row("paper"),
    "bpr": Row("bpr"),
    "default" + GLOBAL_TIME: Row("default"),
    "sparse" + GLOBAL_TIME: Row("sparse"),
    **{f"loss {loss}": Row("paper", {"loss": loss} | _LOSS_ROW) for loss in LOSSES},
}


def measure(scorer: Scorer, evaluation: EvaluationSet) -> dict[str, float]:
    """NDCG@10 and HR@10 of each user's next item among the full catalogue without seen items."""
    evaluation = next_item(evaluation)
    ranks = target_ranks(scorer, evaluation, filter_seen=True)
    values = accuracy(ranks, evaluation.targets.cu_seqlens, 10)
    return {name: float(values[name].mean()) for name in METRICS}


def measure_among_negatives(scorer: Scorer, evaluation: EvaluationSet, seed: int) -> dict[str, Any]:
    """The protocol of the SASRec paper (section IV-B): the target among 100 unseen random items."""
    evaluation = next_item(evaluation)
    rng = np.random.default_rng(seed)
    ranks = np.empty(len(evaluation))
    rows = np.arange(len(evaluation))
    for block in np.array_split(rows, len(rows) // 256 + 1):
        histories = evaluation.histories.select(block)
        scores = scorer.logits(histories)
        targets = evaluation.targets.items[block]
        for row, (history, target) in enumerate(zip(histories, targets, strict=True)):
            candidates = rng.permutation(scores.shape[1] - 1) + 1
            unseen = candidates[~np.isin(candidates, [*history, target])][:PAPER_NEGATIVES]
            ranks[block[row]] = 1 + int((scores[row, unseen] > scores[row, target]).sum())
    values = accuracy(ranks, evaluation.targets.cu_seqlens, 10)
    return {name: float(values[name].mean()) for name in METRICS}


def run_baseline(name: str, data: SequenceDataset) -> dict[str, Any]:
    """Fit on training histories; test histories include what validation added, as for models."""
    scorer = BASELINES[name](data.train, len(data.vocabulary))
    return {
        "validation": measure(scorer, data.validation),
        "test": measure(scorer, data.test),
        "split_sha256": data.description["sha256"],
    }


def run_model(row: Row, data: SequenceDataset, seed: int, run_dir: Path) -> dict[str, Any]:
    """Train, resuming if it was killed, and read test once."""
    chosen = preset(row.preset, **row.overrides, seed=seed)
    result = train(
        data.train, data.validation, data.vocabulary, chosen.model, chosen.train, run_dir
    )
    return {
        "validation": measure(result.recommender, data.validation),
        "test": measure(result.recommender, data.test),
        "test_among_100_negatives": measure_among_negatives(result.recommender, data.test, seed),
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "train_seconds": sum(line["seconds"] for line in result.history),
        "model": chosen.model.model_dump(),
        "train": chosen.train.model_dump(),
        "split_sha256": data.description["sha256"],
    }


def write_result(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Make the result file of one row and seed, unless it is there."""
    torch.set_num_threads(arguments.threads)
    row, slug = MODELS.get(name), f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
    target = RESULTS / f"quality-{arguments.dataset}" / f"{slug}.json"
    if target.exists():
        return
    split = "global-time" if name.endswith(GLOBAL_TIME) else "leave-one-out"
    read_data = read(arguments.dataset, split, arguments.data_dir)
    if split == "global-time" and read_data.report.clock != "real":
        print(f"{name}: skipped, {arguments.dataset} has an order but no timestamps")
        return
    data = read_data.sequences
    if row is None:
        result = run_baseline(name, data)
    else:
        run_dir = arguments.work_dir / arguments.dataset / slug
        result = run_model(row, data, seed, run_dir)
        target.with_suffix(".jsonl").write_text((run_dir / LOG).read_text())
    result = {"row": name, "seed": seed, **result, "provenance": provenance()}
    target.write_text(json.dumps(result, indent=2) + "\n")


def summarise(folder: Path) -> dict[str, Any]:
    """Mean and standard deviation over the seeds that ran, for each row that has any."""
    rows: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        rows.setdefault(result["row"], []).append(result)
    summary = {}
    for name in (name for name in [*BASELINES, *MODELS] if name in rows):
        results = rows[name]
        entry: dict[str, Any] = {"seeds": sorted(r["seed"] for r in results)}
        for fold in ("validation", "test", "test_among_100_negatives"):
            if fold in results[0]:
                entry[fold] = {
                    metric: {
                        "mean": float(np.mean([r[fold][metric] for r in results])),
                        "std": float(np.std([r[fold][metric] for r in results])),
                    }
                    for metric in METRICS
                }
        entry["split_sha256"] = results[0]["split_sha256"]
        summary[name] = entry
    return summary


def print_table(dataset: str, summary: dict[str, Any]) -> None:
    """The table with its protocol."""
    table = Table(
        title=f"{dataset}: next item, full catalogue, seen items filtered, chosen on validation",
        caption="leave-one-out (train on all but the last two) unless the row says otherwise; "
        "mean ± std over the seeds listed",
    )
    for column in ("row", "NDCG@10", "HR@10", "100 negatives: NDCG@10", "HR@10", "seeds"):
        table.add_column(column)
    for name, entry in summary.items():
        cells = [
            f"{value['mean']:.4f}" + (f" ± {value['std']:.4f}" if len(entry["seeds"]) > 1 else "")
            for fold in ("test", "test_among_100_negatives")
            for value in (entry.get(fold, {}).get(metric) for metric in METRICS)
            if value
        ]
        cells += [""] * (4 - len(cells))
        table.add_row(name, *cells, " ".join(map(str, entry["seeds"])))
    published = BEST_SASREC.get(dataset)
    if published:
        table.add_row("best published SASRec", *(f"{published[m]:.4f}" for m in METRICS), "", "")
    Console().print(table)


def main() -> None:
    """Fill what is missing of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data-dir", help="folder of the raw data; downloaded without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=[*BASELINES, *MODELS], help="all by default")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/quality"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--jobs", type=int, default=1, help="rows and seeds at a time")
    arguments = parser.parse_args()
    folder = RESULTS / f"quality-{arguments.dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [
        (name, seed, arguments)
        for seed in arguments.seeds
        for name in arguments.rows or [*BASELINES, *MODELS]
        if name in MODELS or seed == arguments.seeds[0]
    ]
    with workers(arguments.jobs) as pool:
        list(pool.map(write_result, *zip(*jobs, strict=True)))
    summary = summarise(folder)
    path = RESULTS / f"quality-{arguments.dataset}.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    print_table(arguments.dataset, summary)


if __name__ == "__main__":
    main()
