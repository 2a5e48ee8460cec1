"""Event to shift: from the 202 on an event to a list by the other worker that knows of it."""

import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from benchmarks.serving.load import accepted
from benchmarks.serving.systems import HOST, WORKERS, Running

LIMIT_SECONDS = 0.1
GIVE_UP_SECONDS = 2.0
# Lists that only change when the history does.
GREEDY = {"SASREC_EPSILON": "0", "SASREC_GOLD_SHARE": "0"}


def event_to_shift(server: Running, users: list[str], events: int) -> dict[str, Any]:
    """Tell one worker of an event, and ask the other one until it knows, `events` times.

    The event is about the first item of the user's list. What is in the history is not shown, so a
    list without that item was made with the event.

    Args:
        server: with the settings `GREEDY`.
    """
    seconds, first_time = [], 0
    with _client_of_each_worker(server) as clients:
        for number in range(events):
            teller, asker = clients[number % WORKERS], clients[(number + 1) % WORKERS]
            user = users[number % len(users)]
            item = _list(asker, user)[0]
            event = {"event_id": uuid.uuid4().hex, "user_id": user, "item_id": item}
            teller.post("/v1/events", json=event).raise_for_status()
            acknowledged = time.perf_counter()
            known = item not in _list(asker, user)
            first_time += known
            while not known and time.perf_counter() - acknowledged < GIVE_UP_SECONDS:
                known = item not in _list(asker, user)
            seconds.append(time.perf_counter() - acknowledged)
    return {
        "events": events,
        "share_within_100_ms": sum(s <= LIMIT_SECONDS for s in seconds) / events,
        "share_in_the_first_answer": first_time / events,
        "milliseconds": {
            "p50": round(1e3 * statistics.median(seconds), 2),
            "max": round(1e3 * max(seconds), 2),
        },
    }


def _list(client: httpx.Client, user: str) -> list[str]:
    answer = client.post("/v1/recommend", json={"user_id": user, "k": 10}).raise_for_status()
    return [item["item_id"] for item in answer.json()["items"]]


@contextmanager
def _client_of_each_worker(server: Running) -> Iterator[list[httpx.Client]]:
    """One client per worker, told apart by who accepted its only connection."""
    with ExitStack() as stack:
        found: dict[int, httpx.Client] = {}
        while len(found) < WORKERS:
            client = httpx.Client(
                base_url=f"http://{HOST}:{server.port}",
                headers=dict(server.headers),
                trust_env=False,
            )
            stack.enter_context(client)
            stream = client.get("/livez").extensions["network_stream"]
            _, port = stream.get_extra_info("client_addr")
            [owner] = [
                n for n, ports in enumerate(accepted(server.pid, server.port)) if port in ports
            ]
            found.setdefault(owner, client)
        yield [found[owner] for owner in sorted(found)]
