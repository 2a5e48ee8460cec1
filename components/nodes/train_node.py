"""One process of a training on several nodes.

`torchrun --module components.nodes.train_node FOLDER` starts it.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from components.support.champion import recipe_of
from components.support.sequence_extras import SequenceExtras
from components.support.settings import RunConfig
from components.support.training_plan import TrainingPlan
from sasrec.data.dataset import SequenceDataset
from sasrec.model.recommender import Recommender
from sasrec.training.loop import TrainResult

SEQUENCES, CONFIG, MODEL, RESULT = "sequences", "config.json", "model", "result.json"
WARM_START = "warm_start"


def write_work(
    folder: Path, config: str, sequences: Path, warm_start: Recommender | None = None
) -> None:
    """Put what the nodes need into a folder that all of them see.

    Args:
        warm_start: the model that training begins from, if any.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(sequences, folder / SEQUENCES, dirs_exist_ok=True)
    if warm_start is not None:
        warm_start.save(folder / WARM_START)
    (folder / CONFIG).write_text(config)


def train_in(folder: Path) -> None:
    """Train as the folder says; the first process leaves the model there, and the result last."""
    run = RunConfig.parse((folder / CONFIG).read_text())
    recipe = recipe_of(run, None)
    start = folder / WARM_START
    plan = TrainingPlan(recipe, recipe.train, Recommender.load(start) if start.exists() else None)
    dataset = SequenceDataset.load(folder / SEQUENCES)
    result = plan.train(dataset, SequenceExtras.load(run, folder / SEQUENCES), folder)
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
