"""A small world in which the next item often follows from the newest but one."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from sasrec.data.packed import EvaluationSet
from sasrec.data.vocabulary import Vocabulary
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.evaluate import evaluate
from sasrec.scoring.baselines import BigramMarkov, Popularity, RecentPopularity
from tests.sasrec.small_sequences import Lookup, evaluation_set, packed

ITEMS = 40
USERS = 400
FOLLOWS = 0.5  # chance that the next item is the successor of the newest but one
SPLIT = {"kind": "made up", "sha256": "0123456789abcdef"}
TRUE_SCORES = np.roll(np.eye(ITEMS + 1), 1, axis=1)  # successor of i is i + 1


class World:
    """Training histories, test users, and item facts."""

    def __init__(self, seed: int = 0, users: int = USERS) -> None:
        rng = np.random.default_rng(seed)
        walks = [self._walk(rng, int(rng.integers(4, 12))) for _ in range(users)]
        self.vocabulary = Vocabulary([f"i{n}" for n in range(1, ITEMS + 1)])
        self.train = packed([walk[:-2] for walk in walks])
        self.test: EvaluationSet = evaluation_set(
            [walk[:-2] for walk in walks], [walk[-2:] for walk in walks], repeats=True
        )
        items = pa.table(
            {
                "item_id": self.vocabulary.item_ids,
                "title": [f"Title <{n}> & $x_{n}$" for n in range(1, ITEMS + 1)],
                "category": [("red", "blue", None)[n % 3] for n in range(1, ITEMS + 1)],
            }
        )
        self.catalogue = Catalogue.build(self.vocabulary, self.train, items)

    @staticmethod
    def _walk(rng: np.random.Generator, length: int) -> list[int]:
        walk = rng.integers(1, ITEMS + 1, 2).tolist()
        while len(walk) < length:
            successor = walk[-2] % ITEMS + 1
            popular = int(ITEMS * rng.random() ** 2) + 1
            walk.append(successor if rng.random() < FOLLOWS else popular)
        return walk

    def model(self, noise: float, seed: int = 0) -> Lookup:
        """The true successor plus noise: the smaller the noise, the better the model."""
        random = np.random.default_rng(seed).normal(size=TRUE_SCORES.shape)
        return Lookup(TRUE_SCORES + noise * random, name="model", back=2)

    def baselines(self) -> list:
        return [b(self.train, ITEMS) for b in (Popularity, RecentPopularity, BigramMarkov)]

    def evaluate(self, model, **options):
        evaluation = evaluate(model, self.test, self.catalogue, split=SPLIT, **options)
        return replace(evaluation, findings={"cost": {"weights_mib": 1.0, "score_ms": 1.0}})
