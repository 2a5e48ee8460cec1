"""A client of the service as a shop's web server is one: it asks again, and sends until told so."""

import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx

from benchmarks.month.ledger import Ledger

# Reading the machine's certificates takes 25 ms of a core, and nothing here is encrypted.
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ATTEMPTS = 3  # for a list, which somebody waits for
PATIENCE = 120.0  # for an event, which nobody may lose
PAUSE = 0.2
BATCH = 500


class NotAcknowledged(RuntimeError):
    """The service did not take events within `PATIENCE` seconds. One line."""


class Caller:
    """Asks for lists and tells events, with the admin key.

    Attributes:
        statuses: answers by status, 0 for a broken connection, every attempt counted.
        degraded: lists by the reason why they were not the model's.
        failed: lists that no attempt got.
    """

    def __init__(self, url: str, key: str, ledger: Ledger) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
            verify=NO_CERTIFICATES,
            # A worker keeps a connection for good; new ones meet every worker.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._ledger = ledger
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.degraded: Counter[str] = Counter()
        self.failed = 0

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def recommend(self, user: str, k: int) -> dict[str, Any] | None:
        """A list for a user; None if there is none after `ATTEMPTS`."""
        for attempt in range(ATTEMPTS):
            answer = self.send("POST", "/v1/recommend", {"user_id": user, "k": k})
            if answer is not None and answer.status_code == 200:
                content: dict[str, Any] = answer.json()
                if content["degraded"]:
                    with self._lock:
                        self.degraded[content["degraded"]] += 1
                return content
            time.sleep(PAUSE * 2**attempt)
        with self._lock:
            self.failed += 1
        return None

    def tell(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events until they are acknowledged, and note them.

        Raises:
            NotAcknowledged: that took too long, or they were refused for what they are.
        """
        for start in range(0, len(events), BATCH):
            some = list(events[start : start + BATCH])
            self._until(202, "POST", "/v1/events", {"events": some})
            with self._lock:
                self._ledger.note(some)

    def change_items(self, items: Sequence[dict[str, Any]]) -> None:
        """Tell what items are now."""
        if items:
            self._until(200, "PUT", "/v1/items", {"items": list(items)})

    def withdraw(self, item_ids: Sequence[str]) -> None:
        """Take items out of every list."""
        self._until(200, "DELETE", "/v1/items", {"item_ids": list(item_ids)})

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """One attempt; None where the connection broke."""
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.TransportError:
            answer = None
        with self._lock:
            self.statuses[0 if answer is None else answer.status_code] += 1
        return answer

    def _until(self, status: int, method: str, path: str, body: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.send(method, path, body)
            if answer is not None and answer.status_code == status:
                return
            if answer is not None and answer.status_code != 503:
                raise NotAcknowledged(f"{method} {path}: {answer.status_code} {answer.text}")
            if time.monotonic() > deadline:
                raise NotAcknowledged(f"{method} {path}: nothing took it in {PATIENCE:.0f} s")
            time.sleep(PAUSE)
