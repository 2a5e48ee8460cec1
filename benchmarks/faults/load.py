"""Callers in the background that ask for recommendations, and what they were answered."""

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks.faults.server import Server
from benchmarks.faults.site import ITEM_IDS

# A worker keeps a connection for good: new ones, so that every caller meets every worker.
REQUESTS_PER_CONNECTION = 20
NO_ANSWER = 0


@dataclass(frozen=True)
class Answer:
    """One answer; times are `time.monotonic()`, and status 0 is a broken connection."""

    started: float
    ended: float
    status: int
    version: str | None = None
    degraded: str | None = None


class Load:
    """Callers that ask, wait `pause` seconds and ask again, from entry to exit.

    Args:
        users: ids to ask for; without any, each request brings a history of its own.
    """

    def __init__(
        self,
        server: Server,
        *,
        callers: int = 4,
        pause: float = 0.02,
        users: list[str] | None = None,
    ) -> None:
        self.answers: list[Answer] = []
        self._server = server
        self._pause = pause
        self._users = users
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed),), daemon=True)
            for seed in range(callers)
        ]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float) -> list[Answer]:
        """Answers to requests that were sent after `moment`."""
        return [answer for answer in list(self.answers) if answer.started >= moment]

    def _run(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            with self._server.client() as client:
                for _ in range(REQUESTS_PER_CONNECTION):
                    self.answers.append(_ask(client, self._body(rng)))
                    if self._stop.wait(self._pause):
                        return

    def _body(self, rng: random.Random) -> dict[str, Any]:
        if self._users:
            return {"user_id": rng.choice(self._users)}
        return {"recent_items": rng.sample(ITEM_IDS, 20)}


def _ask(client: httpx.Client, body: dict[str, Any]) -> Answer:
    started = time.monotonic()
    try:
        response = client.post("/v1/recommend", json=body)
    except httpx.TransportError:
        return Answer(started, time.monotonic(), NO_ANSWER)
    ended = time.monotonic()
    if response.status_code != 200:
        return Answer(started, ended, response.status_code)
    content = response.json()
    return Answer(started, ended, 200, content["model_version"], content["degraded"])


def milliseconds(answers: list[Answer]) -> dict[str, float]:
    """Quantiles of how long the answers took."""
    took = np.array([1e3 * (answer.ended - answer.started) for answer in answers])
    return {
        "p50": round(float(np.quantile(took, 0.5)), 1),
        "p99": round(float(np.quantile(took, 0.99)), 1),
        "max": round(float(took.max()), 1),
    }
