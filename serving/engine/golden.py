"""Golden requests: answers recorded when a version is registered, replayed before it may serve."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.engine.engine import Engine
from serving.engine.ranking import top_candidates
from serving.registry.store import GOLDEN, RegistryError

TOP = 10
# Float32 scores of another machine or thread count differ in the last bits.
TOLERANCE = 1e-3


def record(
    model_dir: Path, histories: Sequence[Sequence[str]], timestamps: Sequence[Sequence[int]]
) -> list[dict[str, Any]]:
    """The top items and scores of each history, as `ModelStore.register(golden=...)` takes them."""
    engine = Engine(model_dir)
    golden = []
    for items, times in zip(histories, timestamps, strict=True):
        scores = engine.scores(items, times)
        top = _best(scores)
        golden.append(
            {
                "items": list(items),
                "timestamps": [int(t) for t in times],
                "expected": {
                    "items": engine.vocabulary.decode(top),
                    "scores": [float(scores[i]) for i in top],
                },
            }
        )
    return golden


def replay(engine: Engine, directory: Path) -> int:
    """Check the engine against the golden requests of its version; returns how many there are.

    Raises:
        RegistryError: an answer differs.
    """
    path = Path(directory) / GOLDEN
    if not path.exists():
        return 0
    golden = json.loads(path.read_bytes())
    for row, request in enumerate(golden):
        scores = engine.scores(request["items"], request["timestamps"])
        expected = request["expected"]
        again = scores[engine.vocabulary.encode(expected["items"])]
        # The scores decide: equal scores may trade places.
        worst = float(np.max(np.abs(again - expected["scores"]), initial=0.0))
        kth = float(np.min(scores[_best(scores)], initial=np.inf))
        if worst > TOLERANCE or kth > min(expected["scores"], default=np.inf) + TOLERANCE:
            raise RegistryError(
                f"{engine.version}/{GOLDEN}: request {row} is off by {worst:.2g} in score"
            )
    return len(golden)


def _best(scores: np.ndarray) -> np.ndarray:
    return top_candidates(scores, np.ones(len(scores), dtype=bool), TOP)
