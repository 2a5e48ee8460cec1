"""kill -9 of workers and of the whole server while events are sent.

BentoML 1.4.39 looks for dead workers every 10 s, so a worker that was killed is away that long and
the time it takes to start; the others serve on. A whole server is back as soon as it is started.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil

from benchmarks.faults.server import Server
from benchmarks.faults.site import ITEM_IDS, Site
from feature_repo.event_log import read_log

WORKERS = 3
EVENTS_PER_USER = 100  # fewer than a request reads, so that `/v1/history` shows all of them
RESENT = 0.1  # share of acknowledged requests that are sent once more
PATIENCE = 120.0


@dataclass
class Writer:
    """A client that sends events of its users until each is acknowledged.

    Attributes:
        acknowledged: (event id, item id) of each user, in the order of their timestamps.
    """

    number: int
    acknowledged: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    requests: int = 0
    broken: int = 0

    def run(self, server: Server, stop: threading.Event) -> None:
        """Send until `stop`, and then until the last is acknowledged."""
        rng = random.Random(self.number)
        sent = 0
        client = server.client()
        while not stop.is_set():
            user = f"writer-{self.number}-{sent // EVENTS_PER_USER}"
            events = [
                {
                    "event_id": f"{self.number}-{number}",
                    "user_id": user,
                    "item_id": rng.choice(ITEM_IDS),
                    "timestamp": f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}Z",
                }
                # Batches end with a user: a group is durable as one, whatever its size.
                for number in range(sent, sent + rng.choice([1, 2, 5, 10]))
            ][: EVENTS_PER_USER - sent % EVENTS_PER_USER]
            for _ in range(1 + (rng.random() < RESENT)):
                while not self._post(client, events):
                    # The worker is gone and the connection with it.
                    client.close()
                    client = server.client()
                    time.sleep(0.02)
            history = self.acknowledged.setdefault(user, [])
            history += [(event["event_id"], event["item_id"]) for event in events]
            sent += len(events)
            time.sleep(0.005)
        client.close()

    def _post(self, client: httpx.Client, events: list[dict[str, str]]) -> bool:
        self.requests += 1
        try:
            status = client.post("/v1/events", json={"events": events}).status_code
        except httpx.TransportError:
            self.broken += 1
            return False
        assert status in (202, 503), status
        return status == 202


def kill_under_load(
    site: Site, folder: Path, *, kills: int, whole_server_every: int, writers: int = 4
) -> dict[str, Any]:
    """Kill a random worker, or now and then all processes at once, whenever events flow again."""
    clients = [Writer(number) for number in range(writers)]
    with Server(site, folder / "server.log", workers=WORKERS) as server:
        killed = kill_while_sending(server, clients, kills, whole_server_every)
        lost, twice = _compare_histories(server, clients)
    logged = {
        record["event_id"] for record in read_log(site.home / "event_log") if "event_id" in record
    }
    acknowledged = [e for c in clients for history in c.acknowledged.values() for e, _ in history]
    return {
        "kills": dict(killed),
        "workers": WORKERS,
        "requests": sum(client.requests for client in clients),
        "broken_connections": sum(client.broken for client in clients),
        "acknowledged_events": len(acknowledged),
        "lost_from_the_log": len(set(acknowledged) - logged),
        "lost_from_histories": lost,
        "applied_twice": twice,
    }


class Client(Protocol):
    """Who sends until each request is acknowledged."""

    @property
    def acknowledged(self) -> Mapping[str, Sized]:
        """What was, by user or item."""
        ...

    def run(self, server: Server, stop: threading.Event) -> None:
        """Send until `stop`, and then until the last is acknowledged."""
        ...


def kill_while_sending(
    server: Server, clients: Sequence[Client], kills: int, whole_server_every: int
) -> Counter[str]:
    """Kill whenever all clients got on, and in the end everything once more; back on return."""
    rng = random.Random(0)
    stop = threading.Event()
    killed: Counter[str] = Counter()
    threads = [
        threading.Thread(target=client.run, args=(server, stop), daemon=True) for client in clients
    ]
    for thread in threads:
        thread.start()
    try:
        for number in range(1, kills + 1):
            _wait_for_answers(clients)
            time.sleep(rng.random() / 2)
            if number % whole_server_every == 0:
                server.kill()
                server.start()
                killed["server"] += 1
            else:
                _kill_worker(server, rng)
                killed["worker"] += 1
        _wait_for_answers(clients)
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    server.kill()
    server.start()
    return killed


def _kill_worker(server: Server, rng: random.Random) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (workers := server.workers()):
        assert time.monotonic() < deadline, "no worker came back"
        time.sleep(0.05)
    with suppress(psutil.NoSuchProcess):
        rng.choice(workers).kill()


def _wait_for_answers(clients: Sequence[Client]) -> None:
    """Wait until each client got something acknowledged."""
    before = [_count(client) for client in clients]
    deadline = time.monotonic() + PATIENCE
    while any(_count(client) <= was for client, was in zip(clients, before, strict=True)):
        assert time.monotonic() < deadline, "nothing was acknowledged any more"
        time.sleep(0.02)


def _count(client: Client) -> int:
    return sum(map(len, list(client.acknowledged.values())))


def _compare_histories(server: Server, clients: list[Writer]) -> tuple[int, int]:
    """Acknowledged events that the served histories lack, and events that they have too often."""
    lost = twice = 0
    with server.client() as client:
        for writer in clients:
            for user, events in writer.acknowledged.items():
                found = (
                    client.get("/v1/history", params={"user_id": user}).raise_for_status().json()
                )
                served = Counter((row["timestamp"], row["item_id"]) for row in found)
                expected = Counter(
                    (_microseconds(event_id), item_id) for event_id, item_id in events
                )
                lost += (expected - served).total()
                twice += (served - expected).total()
    return lost, twice


def _microseconds(event_id: str) -> int:
    """The timestamp that `Writer` gave this event."""
    number = int(event_id.partition("-")[2])
    start = 1_767_225_600  # 2026-01-01
    return (start + number % 3600) * 1_000_000
