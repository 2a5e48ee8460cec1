"""One process of a training on several nodes.

`torchrun --module components.nodes.train_node FOLDER` starts it. Its launcher touches a file of the
folder as long as it lives. A killed launcher is started again by Kubeflow, and goes on with
the same nodes. When nobody starts it again, the nodes end by themselves rather than hold their
devices until the deadline.
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

from components.support.champion import recipe_of
from components.support.sequence_extras import SequenceExtras
from components.support.settings import RunConfig
from components.support.training_plan import TrainingPlan
from feature_repo.lease import written_now
from sasrec.data.dataset import SequenceDataset
from sasrec.model.recommender import Recommender
from sasrec.training.loop import TrainResult

SEQUENCES, CONFIG, MODEL, RESULT = "sequences", "config.json", "model", "result.json"
LAUNCHER = "launcher"
LAUNCHER_SECONDS = 900.0
"""How long a launcher may be silent: its retry waits, and its pod may wait for a node and image."""
NO_LAUNCHER = 75
"""Exit status of a node without a launcher."""
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


def say_launcher_lives(folder: Path) -> None:
    """Tell the nodes that somebody waits for their model."""
    (folder / LAUNCHER).touch()


def end_without_launcher(folder: Path, *, poll_seconds: float = 30.0) -> None:
    """End this process once the folder's launcher has been silent for `LAUNCHER_SECONDS`."""
    launcher = folder / LAUNCHER

    def watch() -> None:
        while written_now(folder) - launcher.stat().st_mtime < LAUNCHER_SECONDS:
            time.sleep(poll_seconds)
        print("no launcher waits for this training any more", file=sys.stderr, flush=True)
        os._exit(NO_LAUNCHER)

    if launcher.exists():
        threading.Thread(target=watch, name="launcher", daemon=True).start()


def read_result(folder: Path) -> TrainResult:
    """What the nodes left."""
    history = (folder / "train.jsonl").read_text().splitlines()
    return TrainResult(
        Recommender.load(folder / MODEL),
        [json.loads(line) for line in history],
        **json.loads((folder / RESULT).read_text()),
    )


if __name__ == "__main__":
    end_without_launcher(Path(sys.argv[1]))
    train_in(Path(sys.argv[1]))
