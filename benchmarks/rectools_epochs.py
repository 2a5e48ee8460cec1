"""Epoch times of RecTools' SASRec, in an interpreter of its own: it needs an older numpy.

    python rectools_epochs.py '{"train": ..., "epochs": 2, ...}'

Reads a CSV file of `user_id, item_id, datetime`, prints one JSON object. Imports nothing of
this project.
"""

import json
import resource
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel

DIM, BLOCKS, HEADS, MAX_LENGTH, BATCH_USERS = 50, 2, 1, 200, 128


# RecTools copies the trainer with its callbacks, so what they find out is kept here.
SECONDS: list[float] = []
NDCG: list[float] = []


class EpochTimes(Callback):
    """Seconds of each epoch; stops once validation NDCG@10 reaches a target, if there is one."""

    def __init__(self, job):
        self.job = job

    def on_train_epoch_start(self, trainer, module):
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, module):
        """Stop it, then validate off the clock."""
        SECONDS.append(time.perf_counter() - self.started)
        if self.job["target_ndcg"]:
            NDCG.append(ndcg_at_10(module, self.job))
            print(len(NDCG), NDCG[-1], file=sys.stderr)
            late = sum(SECONDS) > self.job["most_seconds"]
            trainer.should_stop = late or NDCG[-1] >= self.job["target_ndcg"]


@torch.no_grad()
def ndcg_at_10(module, job):
    """Validation NDCG@10 over the full catalogue, seen items filtered, in blocks of users."""
    network = module.torch_model.eval()
    external = module.data_preparator.item_id_map
    index = external.to_internal.to_dict()
    frame = pd.read_csv(job["train"])
    targets = pd.read_csv(job["validation"]).set_index("user_id")["item_id"]
    items = network.item_model.get_all_embeddings()
    histories = frame.groupby("user_id")["item_id"].agg(list)
    total = 0.0
    for block in np.array_split(histories.index.to_numpy(), len(histories) // 256 + 1):
        batch = np.zeros((len(block), MAX_LENGTH), dtype=np.int64)
        seen = [[index[item] for item in histories[user]] for user in block]
        for row, history in enumerate(seen):
            newest = history[-MAX_LENGTH:]
            batch[row, -len(newest) :] = newest
        states = network.encode_sessions({"x": torch.from_numpy(batch)}, items)[:, -1]
        scores = states @ items.T
        scores[:, : module.data_preparator.n_item_extra_tokens] = -torch.inf
        for row, history in enumerate(seen):
            scores[row, history] = -torch.inf
        wanted = torch.tensor([index[targets[user]] for user in block])
        ranks = 1 + (scores > scores.gather(1, wanted[:, None])).sum(1)
        total += torch.where(ranks <= 10, 1 / torch.log2(1.0 + ranks), 0.0).sum().item()
    network.train()
    return total / len(histories)


def main():
    """Train and report."""
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    warnings.filterwarnings("ignore")
    seed_everything(job["seed"])
    frame = pd.read_csv(job["train"], parse_dates=["datetime"]).assign(weight=1.0)
    dataset = Dataset.construct(frame)

    def trainer(**_):
        return Trainer(
            max_epochs=job["epochs"],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[EpochTimes(job)],
        )

    SASRecModel(
        n_factors=DIM,
        n_blocks=BLOCKS,
        n_heads=HEADS,
        session_max_len=MAX_LENGTH,
        batch_size=BATCH_USERS,
        loss=job["loss"],
        n_negatives=1,
        dropout_rate=0.2,
        lr=1e-3,
        get_trainer_func=trainer,
    ).fit(dataset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"seconds": SECONDS, "ndcg@10": NDCG, "peak_gib": peak}))


if __name__ == "__main__":
    main()
