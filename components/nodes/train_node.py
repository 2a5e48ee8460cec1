"""One process of a training on several nodes.

`torchrun --module components.nodes.train_node FOLDER` starts it.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from components.support.settings import RunConfig
from sasrec.data.dataset import SequenceDataset
from sasrec.model.recommender import Recommender
from sasrec.training import loop as training
from sasrec.training.loop import TrainResult

SEQUENCES, CONFIG, MODEL, RESULT = "sequences", "config.json", "model", "result.json"


def write_work(folder: Path, config: str, sequences: Path) -> None:
    """Put what the nodes need into a folder that all of them see."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(sequences, folder / SEQUENCES, dirs_exist_ok=True)
    (folder / CONFIG).write_text(config)


def train_in(folder: Path) -> None:
    """Train as the folder says; the first process leaves the model there, and the result last."""
    run = RunConfig.parse((folder / CONFIG).read_text())
    dataset = SequenceDataset.load(folder / SEQUENCES)
    result = training.train(
        dataset.train, dataset.validation, dataset.vocabulary, run.model, run.train, folder
    )
    if int(os.environ.get("RANK", 0)) == 0:
        result.recommender.save(folder / MODEL)
        summary = {"best_epoch": result.best_epoch, "best_ndcg": result.best_ndcg}
        temporary = folder / f"{RESULT}.tmp"
        temporary.write_text(json.dumps(summary))
        temporary.replace(folder / RESULT)


def read_result(folder: Path) -> TrainResult:
    """What the nodes left."""
    history = (folder / "train.jsonl").read_text().splitlines()
    return TrainResult(
        Recommender.load(folder / MODEL),
        [json.loads(line) for line in history],
        **json.loads((folder / RESULT).read_text()),
    )


if __name__ == "__main__":
    train_in(Path(sys.argv[1]))
