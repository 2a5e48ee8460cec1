"""Users of the simulated storefront before the real service, clicking by the simulated truth."""

import asyncio
import itertools
import random
import time
import uuid
from dataclasses import dataclass, field

import httpx
import numpy as np

from sasrec.data.simulated import Storefront
from sasrec.data.simulated.crowd import position_bias

K = 10
LEAVES_AFTER = 0.3  # chance of leaving after each step of a visit


@dataclass
class Crowd:
    """Visits to a service by the users of a storefront.

    A visit is: look something up, ask for a list, click on it or not, look up some more.

    Args:
        storefront: after its last day, so that all items exist and users have a past.
        client: knows the service's address and key.

    Attributes:
        shift: (I,) log-odds that fashion adds to what everyone looks up.
        visits, failures: what happened so far.
    """

    storefront: Storefront
    client: httpx.AsyncClient
    seed: int = 0
    shift: np.ndarray = field(init=False)
    visits: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._choose = random.Random(self.seed)
        self._index = {item: i for i, item in enumerate(self.storefront.item_ids)}
        self._events = (f"{uuid.uuid4().hex}-{number}" for number in itertools.count())
        self._here: set[int] = set()
        self._met = self._count_met()
        # A real site's newcomers replace those who grow. Here nobody is born: so whoever's history
        # is as long as that of a visitor on the first day comes next.
        self._usual = self._met.copy()
        self.shift = np.zeros(len(self._index))

    async def run(self, *, visits_per_second: float, stop: asyncio.Event) -> None:
        """Let visits begin at a steady rate, however long each takes, until `stop`."""
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self._visit())
                await asyncio.sleep(1 / visits_per_second)

    async def rush(self, *, slow: float, stop: asyncio.Event) -> None:
        """As many callers as it takes until an answer takes `slow` seconds, each asking again."""
        items = self.storefront.item_ids
        typical = 0.0

        async def ask_on() -> None:
            nonlocal typical
            while not stop.is_set():
                recent = self._choose.sample(items, min(200, len(items)))
                started = time.perf_counter()
                await self._post("/v1/recommend", {"recent_items": recent, "k": K})
                typical = 0.8 * typical + 0.2 * (time.perf_counter() - started)

        async with asyncio.TaskGroup() as callers:
            while not stop.is_set():
                if typical < slow:
                    callers.create_task(ask_on())
                await asyncio.sleep(0.2)

    def _count_met(self) -> np.ndarray:
        """(U,) how many items each user has met."""
        everyone = np.arange(len(self.storefront.user_ids))
        eligible = self.storefront.crowd.eligible(everyone, self.storefront.day)
        return len(self._index) - eligible.sum(axis=1)

    def _next_visitor(self) -> int:
        some = np.setdiff1d(self._rng.choice(len(self._met), 100, replace=False), list(self._here))
        return int(some[np.argmin(np.abs(self._met[some] - self._rng.choice(self._usual)))])

    async def _visit(self) -> None:
        user = self._next_visitor()
        self._here.add(user)
        try:
            self.storefront.crowd.begin_sessions(np.array([user]))
            await self._look_up(user)
            await self._browse(user)
            while self._choose.random() > LEAVES_AFTER:
                await self._look_up(user)
            self.visits += 1
        except httpx.HTTPError:
            self.failures += 1
        finally:
            self._here.discard(user)

    async def _look_up(self, user: int) -> None:
        crowd, who = self.storefront.crowd, np.array([user])
        log_odds = crowd.next_item_log_odds(who, self.storefront.day)[0] + self.shift
        item = int(np.argmax(log_odds + self._rng.gumbel(size=len(log_odds))))
        self._meet(user, item)
        await self._tell(user, [item], "lookup", None)

    async def _browse(self, user: int) -> None:
        """Ask for a list; each slot is clicked with its true probability."""
        answer = await self._post(
            "/v1/recommend", {"user_id": self.storefront.user_ids[user], "k": K}
        )
        items = np.array([self._index[slot["item_id"]] for slot in answer["items"]])
        crowd, who = self.storefront.crowd, np.array([user])
        probability = crowd.click_probability(who)[0, items] * position_bias(len(items))
        clicked = items[self._rng.random(len(items)) < probability].tolist()
        for item in clicked:
            self._meet(user, item)
        if clicked:
            await self._tell(user, clicked, "click", answer["request_id"])

    def _meet(self, user: int, item: int) -> None:
        self.storefront.crowd.record(np.array([user]), np.array([item]))
        self._met[user] += 1

    async def _tell(self, user: int, items: list[int], kind: str, request: str | None) -> None:
        events = [
            {
                "event_id": next(self._events),
                "user_id": self.storefront.user_ids[user],
                "item_id": self.storefront.item_ids[item],
                "event_type": kind,
                "request_id": request,
            }
            for item in items
        ]
        await self._post("/v1/events", {"events": events})

    async def _post(self, path: str, body: dict) -> dict:
        answer = await self.client.post(path, json=body)
        if answer.status_code == 503:  # busy: come back a little later, as Retry-After asks
            await asyncio.sleep(1)
        return answer.raise_for_status().json()
