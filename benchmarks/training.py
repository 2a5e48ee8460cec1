"""Training speed and memory, side by side with RecTools' SASRec on the same train set.

    python -m benchmarks.training --data-dir DATA --rectools-python VENV/bin/python
    python -m benchmarks.training --catalogue
    python -m benchmarks.training --data-dir DATA --rectools-python ... --to-ndcg 0.17

MovieLens-1M, leave-one-out (n - 2 events a user), max length 200, d = 50, 2 blocks, 1 head. Every
run is a process of its own, ours also as a process a thread under `torchrun`, with the same windows
in each step; ours and theirs take turns, the first epoch of each is discarded.
RecTools needs numpy < 2, so it lives in a virtual environment of its own:
`pip install "rectools[torch]==0.19.0"` there.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.provenance import provenance
from benchmarks.real_sequences import read
from sasrec.data.dataset import SequenceDataset

RESULTS = Path(__file__).parent / "results"
FOLDER = Path(__file__).parent
# Same architecture, batch of about the same tokens and learning rate as RecTools' run.
SAME = {"batch_tokens": 16384, "learning_rate": 1e-3, "averaging": 0.0}
OURS = {
    "BCE": ("paper", SAME | {"attention_dropout": 0.2}),
    "softmax": ("paper", SAME | {"attention_dropout": 0.2, "loss": "cross_entropy"}),
}
ENOUGH = 8.0
THEIRS = {"BCE": "BCE", "softmax": "softmax"}


def run(command: list[str], job: dict[str, Any]) -> dict[str, Any]:
    """One run; every process of it prints one line, its report."""
    done = subprocess.run(
        [*command, json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True
    )
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return reports[0] | {"peak_gib": sum(report["peak_gib"] for report in reports)}


def ours(job: dict[str, Any], loss: str, processes: int = 1, **extra: Any) -> dict[str, Any]:
    """A run of this project; several processes share the job's threads."""
    name, settings = OURS[loss]
    command = [sys.executable, "-m"]
    if processes > 1:
        command += ["torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    job = job | {"threads": job["threads"] // processes, "preset": name, "settings": settings}
    return run([*command, "benchmarks.our_epochs"], job | extra)


def theirs(job: dict[str, Any], loss: str, python: str) -> dict[str, Any]:
    """A run of RecTools."""
    command = [python, str(FOLDER / "rectools_epochs.py")]
    return run(command, job | {"loss": THEIRS[loss]})


def write_inputs(data: SequenceDataset, folder: Path) -> dict[str, str]:
    """The same histories for both: packed for us, a table of events for RecTools."""
    data.save(folder / "sequences")
    train = pd.DataFrame(
        {
            "user_id": pd.Series(list(data.train_users)).repeat(data.train.lengths).to_numpy(),
            "item_id": data.train.items,
            "datetime": pd.to_datetime(data.train.timestamps, unit="us"),
        }
    )
    train.to_csv(folder / "train.csv", index=False)
    first = data.validation.targets.cu_seqlens[:-1]
    validation = {
        "user_id": list(data.validation.user_ids),
        "item_id": data.validation.targets.items[first],
    }
    pd.DataFrame(validation).to_csv(folder / "validation.csv", index=False)
    return {
        "sequences": str(folder / "sequences"),
        "train": str(folder / "train.csv"),
        "validation": str(folder / "validation.csv"),
    }


def epochs_side_by_side(job: dict[str, Any], python: str | None, repeats: int) -> dict[str, Any]:
    """Median seconds per epoch, ours and theirs interleaved."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(repeats):
        for loss in OURS:
            runs.setdefault(f"ours {loss}", []).append(ours(job, loss))
            split = ours(job, loss, processes=job["threads"])
            runs.setdefault(f"ours {loss}, a process a thread", []).append(split)
            if python:
                runs.setdefault(f"RecTools {loss}", []).append(theirs(job, loss, python))
    report: dict[str, Any] = {}
    for name, results in runs.items():
        seconds = [s for result in results for s in result["seconds"][1:]]
        report[name] = {
            "seconds_per_epoch": statistics.median(seconds),
            "all_seconds": seconds,
            "peak_gib": max(result["peak_gib"] for result in results),
        }
        print(f"{name:32} {report[name]['seconds_per_epoch']:7.2f} s/epoch", end="")
        print(f"  peak {report[name]['peak_gib']:.2f} GiB")
    for loss in OURS if python else ():
        theirs_seconds = report[f"RecTools {loss}"]["seconds_per_epoch"]
        for way in (loss, f"{loss}, a process a thread"):
            ratio = theirs_seconds / report[f"ours {way}"]["seconds_per_epoch"]
            report[f"speed-up {way}"] = ratio
            print(f"{way}: {ratio:.1f} times as fast per epoch")
    return report


def time_to_quality(job: dict[str, Any], python: str) -> dict[str, Any]:
    """Training seconds until validation NDCG@10 first reaches the target; validation is not timed.

    Ours is the `default` preset: how one would train to get there. RecTools is stopped when it has
    trained `ENOUGH` times as long and is not there.
    """
    job = job | {"epochs": 200}
    own = ours(job, "softmax", preset="default", settings={})
    most = ENOUGH * sum(own["seconds"])
    report = {"ours": own, "RecTools": theirs(job | {"most_seconds": most}, "softmax", python)}
    for name, result in report.items():
        print(
            f"{name}: validation NDCG@10 {result['ndcg@10'][-1]:.4f} after "
            f"{sum(result['seconds']):.0f} s in {len(result['seconds'])} epochs"
        )
    ratio = sum(report["RecTools"]["seconds"]) / sum(own["seconds"])
    there = report["RecTools"]["ndcg@10"][-1] >= job["target_ndcg"]
    print(f"to {job['target_ndcg']}: {'' if there else 'more than '}{ratio:.1f} times as fast")
    return report | {"speed-up": ratio, "RecTools reached it": there}


def large_catalogue(job: dict[str, Any]) -> dict[str, Any]:
    """Sampled softmax over 1 M events with 10 k and with 1 M items (simulated)."""
    report = {}
    settings = {
        "loss": "sampled_softmax",
        "max_length": 50,
        "averaging": 0.0,
        "batch_tokens": 16384,
    }
    for items in (10_000, 1_000_000):
        result = ours(
            job, "softmax", preset="default", settings=settings, items=items, events=1_000_000
        )
        report[f"{items} items"] = result
        rate = result["tokens_per_second"][-1]
        print(f"{items:>9,} items: {rate:,.0f} tokens/s, peak {result['peak_gib']:.2f} GiB")
    small, large = (result["tokens_per_second"][-1] for result in report.values())
    print(f"tokens/s with 1 M items over that with 10 k: {large / small:.2f}")
    return report | {"ratio": large / small}


def main() -> None:
    """Measure what was asked and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--rectools-python", help="interpreter that has rectools[torch]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="per run, the first discarded")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--to-ndcg", type=float, help="time to this validation NDCG@10 instead")
    parser.add_argument("--catalogue", action="store_true", help="1 M simulated items instead")
    arguments = parser.parse_args()
    job = {"epochs": arguments.epochs, "threads": arguments.threads, "seed": 0, "target_ndcg": None}
    if arguments.catalogue:
        name, report = "catalogue", large_catalogue(job)
    else:
        data = read("ml-1m", "leave-one-out", arguments.data_dir).sequences
        with tempfile.TemporaryDirectory() as folder:
            job |= write_inputs(data, Path(folder))
            if arguments.to_ndcg:
                job["target_ndcg"] = arguments.to_ndcg
                name, report = "to-quality", time_to_quality(job, arguments.rectools_python)
            else:
                name = "epochs"
                report = epochs_side_by_side(job, arguments.rectools_python, arguments.repeats)
    path = RESULTS / f"training-{name}.json"
    path.write_text(json.dumps({**report, "provenance": provenance()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
