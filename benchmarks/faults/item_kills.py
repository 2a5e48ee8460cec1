"""kill -9 of workers and of the whole server while items are added, changed and taken out."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.faults.kills import WORKERS, kill_while_sending
from benchmarks.faults.server import Server
from benchmarks.faults.site import Site
from feature_repo.event_log import read_log

ITEMS_PER_WRITER = 40
ASKED_AT_ONCE = 50
VISIBLE_SECONDS = 5.0


@dataclass
class ItemWriter:
    """A client that changes its own items again and again, each until it is acknowledged.

    Attributes:
        acknowledged: the titles of each item, in the order in which they were acknowledged.
    """

    number: int
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    requests: int = 0
    broken: int = 0

    def run(self, server: Server, stop: threading.Event) -> None:
        """Send until `stop`, and then until the last is acknowledged."""
        rng = random.Random(self.number)
        client = server.client()
        sent = 0
        while not stop.is_set():
            chosen = rng.sample(range(ITEMS_PER_WRITER), rng.choice([1, 2, 5, 10]))
            items = [
                {
                    "item_id": f"new-{self.number}-{item}",
                    "title": f"{self.number}-{sent + place}",
                    "attributes": {"price": sent + place},
                }
                for place, item in enumerate(chosen)
            ]
            while not self._put(client, items):
                client.close()
                client = server.client()
                time.sleep(0.02)
            for item in items:
                self.acknowledged.setdefault(str(item["item_id"]), []).append(str(item["title"]))
            sent += len(items)
            time.sleep(0.005)
        client.close()

    def _put(self, client: httpx.Client, items: list[dict[str, Any]]) -> bool:
        self.requests += 1
        try:
            status = client.put("/v1/items", json={"items": items}).status_code
        except httpx.TransportError:
            self.broken += 1
            return False
        assert status in (200, 503), status
        return status == 200


def kill_while_items_change(
    site: Site, folder: Path, *, kills: int, whole_server_every: int, writers: int = 4
) -> dict[str, Any]:
    """As `kill_under_load`, with items in place of events."""
    clients = [ItemWriter(number) for number in range(writers)]
    with Server(site, folder / "server.log", workers=WORKERS) as server:
        killed = kill_while_sending(server, clients, kills, whole_server_every)
        time.sleep(VISIBLE_SECONDS)
        newest = {item: titles[-1] for c in clients for item, titles in c.acknowledged.items()}
        lost = _not_served(server, newest)
    logged = {
        (record["item_id"], record["title"])
        for record in read_log(site.home / "event_log")
        if record["type"] == "item"
    }
    acknowledged = {
        (item, title)
        for c in clients
        for item, titles in c.acknowledged.items()
        for title in titles
    }
    return {
        "kills": dict(killed),
        "workers": WORKERS,
        "requests": sum(client.requests for client in clients),
        "broken_connections": sum(client.broken for client in clients),
        "acknowledged_changes": len(acknowledged),
        "lost_from_the_log": len(acknowledged - logged),
        "not_served": lost,
    }


def _not_served(server: Server, newest: dict[str, str]) -> int:
    """Items that a worker does not know as they were acknowledged last."""
    wrong: set[str] = set()
    ids = sorted(newest)
    for start in range(0, len(ids), ASKED_AT_ONCE):
        asked = ids[start : start + ASKED_AT_ONCE]
        for _ in range(3 * WORKERS):  # by connections of their own: every worker is met
            with server.client() as client:
                answer = client.get("/v1/items", params={"item_id": asked}).raise_for_status()
            known = {item["item_id"]: item["title"] for item in answer.json()["items"]}
            wrong |= {item for item in asked if known.get(item) != newest[item]}
    return len(wrong)
