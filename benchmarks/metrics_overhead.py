"""What counting costs a request, as a share of the request.

    python -m benchmarks.metrics_overhead --home var/simulated

Requests go through the whole application in this process (ASGI, without a socket), as one worker
with multiprocess metrics has it, in blocks that take turns: with metrics, and with every metric
call replaced by nothing. CPU time, not wall time, so that a busy machine says the same.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="sasrec-metrics-")

from starlette.testclient import TestClient

from benchmarks.provenance import provenance
from sasrec.data.vocabulary import Vocabulary
from serving import metrics
from serving.api.app import create_app
from serving.registry import ModelStore
from serving.settings import Settings

RESULT = Path(__file__).parent / "results" / "metrics-overhead.json"
HISTORY = 30


def measure(client: TestClient, item_ids: list[str], requests: int) -> float:
    """CPU seconds of one request with a history of `HISTORY` items."""
    rng = random.Random(0)
    bodies = [{"recent_items": rng.sample(item_ids, HISTORY), "k": 10} for _ in range(requests)]
    started = time.process_time()
    for body in bodies:
        assert client.post("/v1/recommend", json=body).status_code == 200
    return (time.process_time() - started) / requests


def count_once(answer: object, times: int) -> float:
    """CPU seconds of everything that is counted for one recommendation."""
    started = time.process_time()
    for _ in range(times):
        metrics.observe_request("recommend", 200, 0.003)
        metrics.observe_recommendation(answer)  # type: ignore[arg-type]
        metrics.IN_FLIGHT.set(1)
        metrics.IN_FLIGHT.set(0)
    return (time.process_time() - started) / times


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--requests", type=int, default=100)
    arguments = parser.parse_args()

    store = ModelStore(arguments.home / "models")
    champion = store.path(store.aliases().champion or "")
    item_ids = Vocabulary.load(champion / "vocabulary.json").item_ids
    answers: list[object] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        settings = Settings(
            home=arguments.home,
            insecure=False,
            event_log=Path(scratch) / "event_log",
            deadline_seconds=10,
        )
        key = json.loads(settings.api_keys_file.read_text())["admin"][0]
        client = stack.enter_context(
            TestClient(create_app(settings), headers={"Authorization": f"Bearer {key}"})
        )
        observe = metrics.observe_recommendation
        with patch.object(metrics, "observe_recommendation", answers.append):
            measure(client, item_ids, 20)
        assert metrics.observe_recommendation is observe
        counting, silent = [], []
        for _ in range(arguments.blocks):
            counting.append(measure(client, item_ids, arguments.requests))
            with (
                patch.object(metrics, "observe_recommendation", lambda _: None),
                patch.object(metrics, "observe_request", lambda *_: None),
                patch.object(metrics, "IN_FLIGHT"),
            ):
                silent.append(measure(client, item_ids, arguments.requests))
        alone = statistics.median(count_once(answers[0], 2000) for _ in range(5))
    request = statistics.median(silent)
    result = {
        "request_microseconds": round(1e6 * request, 1),
        "counting_microseconds": round(1e6 * alone, 1),
        "share_of_request": round(alone / request, 4),
        "share_between_blocks": round(statistics.median(counting) / request - 1, 4),
        "blocks": arguments.blocks,
        "requests_per_block": arguments.requests,
        **provenance(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
