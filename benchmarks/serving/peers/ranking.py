"""The answer of both peers: our model, the exact best items, nothing seen before."""

import os
from pathlib import Path

import torch

from serving.engine import Engine, top_candidates


class Ranker:
    """The model in the folder that `BENCHMARK_MODEL` names, on one thread as our workers have it.

    A peer has our engine, so that the table compares what is around the model, not the model.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.engine = Engine(Path(os.environ["BENCHMARK_MODEL"]))
        self.engine.warm_up()

    def rank(self, recent_items: list[str], k: int) -> list[dict[str, str | float]]:
        """The `k` best items with their scores."""
        eligible = self.engine.eligible(category=None, exclude=(), seen=recent_items)
        scores = self.engine.scores(recent_items, range(len(recent_items)))
        best = top_candidates(scores, eligible, k)
        ids = self.engine.vocabulary.decode(best)
        return [
            {"item_id": item_id, "score": score}
            for item_id, score in zip(ids, scores[best].tolist(), strict=True)
        ]
