"""What the best 200 of a catalogue cost: all items scored, or an index and its best again."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.stopwatch import in_turns, summary
from sasrec.data.vocabulary import PADDING
from sasrec.model.encoder import Encoder
from sasrec.model.recommender import Recommender
from serving.engine.index import OVERSAMPLING, accurate_index
from serving.engine.ranking import ExactRanking, IndexRanking, score

BEST = 200
QUERIES = 64
REPEATS = 50


def compare_best(model_dir: Path) -> dict[str, Any]:
    """Milliseconds of each after the history is encoded, and the index's recall and cost."""
    torch.set_num_threads(1)
    encoder = Encoder(Recommender.load(model_dir).model.eval())
    matrix = encoder.matrix
    queries = [_hidden(encoder, number) for number in range(QUERIES)]
    started = time.perf_counter()
    index, recall = accurate_index(matrix, queries)
    found: dict[str, Any] = {
        "recall_at_100": recall,
        "used": index is not None,
        "scored_again": OVERSAMPLING * BEST,
        "build_and_check_seconds": round(time.perf_counter() - started, 2),
    }
    if index is None:
        return found
    eligible = np.ones(len(matrix), dtype=bool)
    eligible[PADDING] = False
    turn = iter(range(10**9))

    def hidden() -> torch.Tensor:
        return queries[next(turn) % QUERIES]  # another each time: the cache has seen none of them

    calls = {
        "exact": lambda: ExactRanking(score(matrix, hidden())).best(eligible, BEST),
        "index": lambda: IndexRanking(hidden(), matrix, index).best(eligible, BEST),
    }
    return found | {name: summary(seconds) for name, seconds in in_turns(calls, REPEATS).items()}


def _hidden(encoder: Encoder, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    items = torch.from_numpy(rng.integers(1, len(encoder.matrix), 50))
    with torch.inference_mode():
        return encoder.encode(items, torch.arange(len(items)))
