"""What it costs to hold a model and to ask it, which budgets in `gates.yaml` bound."""

import time

import numpy as np

from sasrec.data.packed import PackedSequences
from sasrec.model.recommender import Recommender
from sasrec.scoring.ranking import top_k

REQUESTS = 50
ANSWER = 10
MIB = 2**20


def serving_cost(model: Recommender, histories: PackedSequences) -> dict[str, float]:
    """Size of the weights and time of one answer, on this machine and its threads.

    Args:
        histories: B real ones, at least one; the first `REQUESTS` are asked for, one at a time.

    Returns:
        `weights_mib`, and `score_ms`: the median time to rank the whole catalogue after one
        history, without anything that the service adds.
    """
    seconds = []
    for row in range(min(REQUESTS, len(histories))):
        history = histories.select(np.array([row]))
        started = time.perf_counter()
        top_k(model, history, ANSWER)
        seconds.append(time.perf_counter() - started)
    weights = sum(p.numel() * p.element_size() for p in model.model.parameters())
    return {"weights_mib": weights / MIB, "score_ms": 1000 * float(np.median(seconds))}
