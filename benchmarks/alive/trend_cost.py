"""What a trend costs a server: a list with and without it, and each second's look at counts."""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.provenance import provenance
from benchmarks.serving.site import item_name
from benchmarks.stopwatch import summary
from sasrec.data.vocabulary import Vocabulary
from sasrec.model.config import ModelConfig
from sasrec.model.recommender import Recommender
from sasrec.model.sasrec import SASRec
from sasrec.off_policy.policy import Policy
from sasrec.scoring.decayed_counts import SECOND, DecayedCounts
from sasrec.scoring.trend import Trend
from sasrec.scoring.trend_config import TrendConfig
from serving.engine.engine import Engine
from serving.engine.recommendation import recommend
from serving.engine.request_history import History
from serving.schemas import RecommendRequest
from serving.worker.trend_follower import POLL_SECONDS

RESULT = Path(__file__).parents[1] / "results" / "alive-trend-cost.json"
SIZES = (3_400, 100_000, 1_000_000)
INDEX_ABOVE = 200_000  # as serving has it
EVENTS = 50
A_SECOND = 1_000
"""Events that a look finds: of a busy site."""
REPEATS, LOOKS, WARM_UP = 1_000, 50, 10
POLICY = Policy("epsilon_greedy", epsilon=0.02)


def measure(items: int) -> dict[str, Any]:
    """Milliseconds of CPU of a list of ten, and of a look, over a catalogue of this size."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        plain, trending = Path(scratch) / "plain", Path(scratch) / "trending"
        model = SASRec(ModelConfig(), items)
        torch.nn.init.normal_(model.item_embedding.weight)
        Recommender(model, Vocabulary([item_name(i) for i in range(items)])).save(plain)
        shutil.copytree(plain, trending)
        half_lives = TrendConfig().seconds
        counts = DecayedCounts(items, half_lives, 0)
        counts.add(rng.zipf(1.3, 10**6) % items + 1, np.zeros(10**6, dtype=np.int64))
        Trend(half_lives, (0.1, 0.3, 0.2, -0.3)).save(trending, counts)
        engines = {
            "without": Engine(plain, index_above=INDEX_ABOVE),
            "with": Engine(trending, index_above=INDEX_ABOVE),
        }
    histories = [
        History([item_name(i) for i in rng.integers(0, items, EVENTS)], list(range(EVENTS)))
        for _ in range(64)
    ]
    request = RecommendRequest.model_validate({"k": 10})
    turn = iter(range(10**9))

    def ask(engine: Engine) -> None:
        history = histories[next(turn) % len(histories)]
        recommend(engine, request, history, POLICY, candidates=200)

    calls = {name: partial(ask, engine) for name, engine in engines.items()}
    found = {name: summary(seconds) for name, seconds in _in_turns(calls, REPEATS).items()}
    live = engines["with"].trend
    assert live is not None
    now = iter(range(SECOND, 10**15, SECOND))

    def look() -> None:
        moment = next(now)
        met = rng.integers(1, items + 1, A_SECOND)
        live.move(met, np.full(A_SECOND, moment), moment)

    # The mean: every fifth look renews all items.
    found["look"] = {"mean": 1e3 * float(np.mean(_in_turns({"look": look}, LOOKS)["look"]))}
    return found


def _in_turns(calls: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of this thread's CPU in each call: other work on the machine is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(-WARM_UP, repeats):
        for name, call in calls.items():
            started = time.thread_time()
            call()
            if number >= 0:
                seconds[name].append(time.thread_time() - started)
    return seconds


def main(arguments: argparse.Namespace) -> None:
    """Measure every size."""
    sizes = {str(items): measure(items) for items in SIZES}
    record = {"poll_seconds": POLL_SECONDS, "sizes": sizes, "provenance": provenance()}
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(sizes, indent=1))
