"""The online history stopped, and hung, under load."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.load import Load, milliseconds
from benchmarks.faults.redis_server import RedisServer
from benchmarks.faults.server import Server
from benchmarks.faults.site import ITEM_IDS, Site

USERS = [f"user-{number}" for number in range(50)]
PATIENCE = 60.0
SETTLED = 0.5  # seconds without a degraded answer


def take_history_away(site: Site, folder: Path, *, seconds: float) -> dict[str, Any]:
    """Stop Redis for `seconds`, bring it back, hang it for as long, and let it go on."""
    with (
        RedisServer(folder) as redis,
        Server(site, folder / "server.log", settings={"SASREC_HISTORY": redis.url}) as server,
        Load(server, users=USERS) as load,
    ):
        sender = _Events(server)
        for number in range(5 * len(USERS)):
            sender.send(USERS[number % len(USERS)])
        before = time.monotonic()
        time.sleep(seconds)
        healthy = load.since(before)
        return {
            "seconds_away": seconds,
            "healthy_milliseconds": milliseconds(healthy),
            "stopped": _away(server, load, sender, redis.stop, redis.start, seconds),
            "hung": _away(server, load, sender, redis.hang, redis.resume, seconds),
        }


class _Events:
    """Sends events, and remembers what was acknowledged."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count()
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0

    def send(self, user: str) -> str:
        """One event; returns its item."""
        number = next(self._numbers)
        event = {
            "event_id": f"e{number}",
            "user_id": user,
            "item_id": ITEM_IDS[number % len(ITEM_IDS)],
        }
        started = time.monotonic()
        with self._server.client() as client:
            self.statuses[client.post("/v1/events", json=event).status_code] += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
        return event["item_id"]


def _away(
    server: Server,
    load: Load,
    sender: _Events,
    leave: Callable[[], None],
    come_back: Callable[[], None],
    seconds: float,
) -> dict[str, Any]:
    sender.statuses.clear()
    sender.slowest = 0.0
    leave()
    left = time.monotonic()
    user = f"newcomer-{left:.0f}"  # nothing but what is sent while the history is away
    sent: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.1):
            sent.append(sender.send(user))

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    time.sleep(seconds)
    stop.set()
    sending.join()
    returning = time.monotonic()
    come_back()
    back = time.monotonic()
    # Requests that were answered while the history was away, from the first moment on.
    away = [answer for answer in load.since(left) if answer.ended < returning]
    statuses = Counter(answer.status for answer in away)
    last_degraded = _recovered(load, back)
    return {
        "requests": len(away),
        "answered_200": statuses[200],
        "degraded": sum(answer.degraded == "history" for answer in away),
        "milliseconds": milliseconds(away),
        "recovery_seconds": round(max(0.0, last_degraded - back), 3),
        "events_sent": len(sent),
        "events_acknowledged": sender.statuses[202],
        "slowest_event_seconds": round(sender.slowest, 3),
        "events_missing_after_recovery": _missing(server, user, sent),
    }


def _recovered(load: Load, back: float) -> float:
    """Wait until no answer is degraded any more; returns when the last such was asked for."""
    while True:
        assert time.monotonic() < back + PATIENCE, "still degraded"
        time.sleep(0.05)
        answers = load.since(back)
        last = max((a.started for a in answers if a.degraded is not None), default=back)
        if answers and max(answer.started for answer in answers) > last + SETTLED:
            return last


def _missing(server: Server, user: str, sent: list[str]) -> int:
    """Events sent meanwhile that the history still lacks a few seconds after its return."""
    deadline = time.monotonic() + 10
    with server.client() as client:
        while True:
            answer = client.get("/v1/history", params={"user_id": user})
            found = [row["item_id"] for row in answer.json()] if answer.status_code == 200 else []
            missing = (Counter(sent) - Counter(found)).total()
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.1)
