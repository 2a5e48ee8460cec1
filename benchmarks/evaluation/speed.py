"""Time and memory of one evaluation, at the size of MovieLens-1M and far beyond it."""

import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from sasrec.data.packed import EvaluationSet, PackedSequences
from sasrec.data.vocabulary import Vocabulary
from sasrec.evaluation.bootstrap import RESAMPLES
from sasrec.evaluation.catalogue import Catalogue
from sasrec.evaluation.evaluate import evaluate
from sasrec.gates import GateConfig, decide
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.scoring.baselines import ALL, Popularity
from sasrec.scoring.scorer import Scorer

HOUR = 3_600_000_000  # microseconds
SCALE_DIM = 32


def measure_speed() -> dict[str, Any]:
    """6,040 users × 3,416 items: SASRec, all baselines, metrics, slices, intervals and gates."""
    world = _World(users=6040, items=3416, events=160)
    model = Recommender(SASRec(ModelConfig(), len(world.vocabulary)), world.vocabulary)
    baselines = [baseline(world.train, len(world.vocabulary)) for baseline in ALL]
    return world.size() | _timed(lambda: world.judge(model, baselines))


def measure_scale() -> dict[str, Any]:
    """100,000 users × 100,000 items, a scorer that costs one matrix product."""
    world = _World(users=100_000, items=100_000, events=20)
    baselines = [Popularity(world.train, len(world.vocabulary))]
    return world.size() | _timed(lambda: world.judge(_Factors(len(world.vocabulary)), baselines))


class _World:
    """Histories without meaning, as long and as skewed as real ones."""

    def __init__(self, *, users: int, items: int, events: int) -> None:
        rng = np.random.default_rng(0)
        lengths = 2 + rng.geometric(1 / (events - 2), users)
        walks = [self._walk(rng, items, length) for length in lengths]
        self.vocabulary = Vocabulary([f"i{n}" for n in range(1, items + 1)])
        self.train = _pack([walk[:-1] for walk in walks])
        self.test = EvaluationSet(
            "test",
            [f"u{n}" for n in range(users)],
            self.train,
            _pack([walk[-1:] for walk in walks], np.array([len(walk) - 1 for walk in walks])),
        )
        facts = pa.table(
            {
                "item_id": self.vocabulary.item_ids,
                "title": self.vocabulary.item_ids,
                "category": [f"category {n % 18}" for n in range(items)],
            }
        )
        self.catalogue = Catalogue.build(self.vocabulary, self.train, facts)

    @staticmethod
    def _walk(rng: np.random.Generator, items: int, length: int) -> np.ndarray:
        """Distinct items, the popular ones likelier."""
        drawn = (items * rng.random(2 * length) ** 2).astype(np.int64) + 1
        _, first = np.unique(drawn, return_index=True)
        return drawn[np.sort(first)][:length]

    def size(self) -> dict[str, int]:
        return {
            "users": len(self.test),
            "items": len(self.vocabulary),
            "events": len(self.train.items),
            "resamples": RESAMPLES,
        }

    def judge(self, model: Scorer, baselines: Sequence[Scorer]) -> dict[str, Any]:
        """One evaluation with the verdict of the built-in gates."""
        evaluation = evaluate(
            model, self.test, self.catalogue, split={"kind": "made up"}, baselines=baselines
        )
        verdict = decide(evaluation, GateConfig.load())
        return {
            "roles": list(evaluation.metrics),
            "metrics": len(evaluation.metrics["model"]),
            "gates": len(verdict.results),
        }


class _Factors:
    """A random vector per item; a history is the mean of its items."""

    name = "factors"

    def __init__(self, items: int) -> None:
        torch.manual_seed(0)
        self._vectors = torch.randn(items + 1, SCALE_DIM)

    def logits(self, histories: PackedSequences) -> torch.Tensor:
        offsets = torch.from_numpy(histories.cu_seqlens[:-1].astype(np.int64))
        items = torch.from_numpy(histories.items)
        users = torch.nn.functional.embedding_bag(items, self._vectors, offsets)
        scores = users @ self._vectors.T
        scores[:, 0] = -torch.inf
        return scores


def _pack(walks: list[np.ndarray], first_hour: np.ndarray | int = 0) -> PackedSequences:
    lengths = np.array([len(walk) for walk in walks])
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    hour = np.arange(cu_seqlens[-1]) - np.repeat(cu_seqlens[:-1], lengths)
    hours = hour + np.repeat(np.broadcast_to(first_hour, lengths.shape), lengths)
    return PackedSequences(np.concatenate(walks), cu_seqlens, hours.astype(np.int64) * HOUR)


def _timed(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found | {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
