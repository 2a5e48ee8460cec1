"""The answer of both peers: our model, its best items, nothing seen before."""

import os
from pathlib import Path

import torch

from serving.engine.engine import Engine
from serving.settings import Settings


class Ranker:
    """The model in the folder that `BENCHMARK_MODEL` names, on one thread as our workers have it.

    A peer has our engine, so that the table compares what is around the model, not the model.
    """

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.engine = Engine(
            Path(os.environ["BENCHMARK_MODEL"]), index_above=Settings().index_above
        )
        self.engine.warm_up()

    def rank(self, recent_items: list[str], k: int) -> list[dict[str, str | float]]:
        """The `k` best items with their scores."""
        eligible = self.engine.eligible(category=None, exclude=(), seen=recent_items)
        ranking = self.engine.rank(recent_items, range(len(recent_items)))
        assert ranking is not None, "no known item"
        best = ranking.best(eligible, k)
        ids = self.engine.vocabulary.decode(best)
        return [
            {"item_id": item_id, "score": score}
            for item_id, score in zip(ids, ranking.scores(best).tolist(), strict=True)
        ]
