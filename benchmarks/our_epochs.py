"""Epoch times of our SASRec in a process of its own, for `benchmarks.training` to run."""

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sasrec.data.dataset import SequenceDataset
from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.presets import preset
from sasrec.training import loop as training

DAY = 86_400_000_000  # microseconds


def simulated(items: int, events: int, *, length: int = 50) -> SequenceDataset:
    """Events over a large catalogue: items drawn by a Zipf law, 50 events a user.

    Only speed and memory are read from it, so there is nothing to learn but popularity.
    """
    rng = np.random.default_rng(0)
    users = events // length
    weights = 1 / np.arange(1, items + 1)
    drawn = rng.choice(items, size=users * length, p=weights / weights.sum()) + 1
    train = PackedSequences(
        drawn, np.arange(0, events + 1, length, dtype=np.int32), np.arange(events) * DAY // length
    )
    few = np.arange(min(8, users))
    target = PackedSequences(few + 1, np.arange(len(few) + 1, dtype=np.int32), few * DAY)
    validation = EvaluationSet("validation", [str(u) for u in few], train.select(few), target)
    vocabulary = Vocabulary(str(i) for i in range(items))
    return SequenceDataset(
        {}, vocabulary, [str(u) for u in range(users)], train, validation, validation
    )


def train(job: dict[str, Any], data: SequenceDataset, run_dir: Path) -> list[dict[str, Any]]:
    """The epochs' records; with a target, up to the first epoch that reaches it."""
    fields = job["settings"] | {"seed": job["seed"], "patience": 10**6}
    target = job["target_ndcg"]
    if target is None:
        fields |= {"validate_every": job["epochs"]}
    # A run continues where it stopped, so asking for one more epoch at a time costs nothing.
    for epochs in range(1, job["epochs"] + 1) if target else [job["epochs"]]:
        chosen = preset(job["preset"], **fields, epochs=epochs)
        history = training.train(
            data.train, data.validation, data.vocabulary, chosen.model, chosen.train, run_dir
        ).history
        if target and history[-1]["ndcg@10"] >= target:
            break
    return history


def main() -> None:
    """Train as the job says and print seconds per epoch, scores and peak memory as JSON."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    training.CHECKPOINT_SECONDS = float("inf")
    if "items" in job:
        data = simulated(job["items"], job["events"])
    else:
        data = SequenceDataset.load(Path(job["sequences"]))
    with tempfile.TemporaryDirectory() as run_dir:
        history = train(job, data, Path(run_dir))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report = {
        "seconds": [line["seconds"] for line in history],
        "ndcg@10": [line["ndcg@10"] for line in history if "ndcg@10" in line],
        "tokens_per_second": [line["tokens_per_second"] for line in history],
        "peak_gib": peak,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
