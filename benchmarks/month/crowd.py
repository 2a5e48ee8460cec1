"""The visitors of a round: they look things up, ask for a list, click, and look up some more."""

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.feedback_loop.truth import best_items
from benchmarks.month.caller import Caller
from benchmarks.month.clock import ShopClock
from benchmarks.month.ledger import NEGATIVE
from benchmarks.month.references import References
from benchmarks.month.shop import HOUR, Shop
from sasrec.data.simulated.crowd import position_bias
from sasrec.data.simulated.logging_policy import SLOTS, Served
from sasrec.data.simulated.storefront import Events

Answer = dict[str, Any]
Event = dict[str, Any]

AT_ONCE = 4
DISLIKES = 0.05  # share of visits that end with one
STEP = HOUR // 20  # between looking up, the list, and what follows


@dataclass
class Visits:
    """What a round of visits was.

    Attributes:
        lists: (n, 10) item numbers in the order of the simulator's sessions.
        click_through: the true P(interacted | served) of each slot, by who chose the lists.
        calibration: (2, slots) what the service promised, and the truth.
        disliked: shown slots whose item their user had disliked before.
        withdrawn: shown slots of items that were withdrawn.
    """

    lists: np.ndarray
    click_through: dict[str, list[float]] = field(default_factory=dict)
    calibration: np.ndarray = field(default_factory=lambda: np.zeros((2, 0)))
    disliked: int = 0
    withdrawn: int = 0


class Crowd:
    """The shop's users before the service.

    Attributes:
        gone: user ids that never come again.
        withdrawn: item ids that are to be in no list.
    """

    def __init__(self, shop: Shop, clock: ShopClock, seed: int) -> None:
        self._shop, self._clock = shop, clock
        self._index = {item: n for n, item in enumerate(shop.storefront.item_ids)}
        self._disliked: set[tuple[str, str]] = set()
        self._seed = seed
        self.gone: set[str] = set()
        self.withdrawn: set[str] = set()

    def replay(self, lists: np.ndarray) -> None:
        """Let a round pass that was lived before, with the lists that it had."""

        def serve(users: np.ndarray, eligible: np.ndarray) -> Served:
            return _served(lists, np.full(lists.shape, np.nan))

        self._shop.storefront.run_day(serve)

    def visit(
        self, caller: Caller, references: References, meanwhile: Callable[[], None] = lambda: None
    ) -> Visits:
        """A round of visits, on the clock's time.

        Args:
            meanwhile: called once, when half of the lists have been asked for.
        """
        storefront = self._shop.storefront
        tick = storefront.day
        began = storefront.midnight(tick)
        visits = Visits(np.zeros((0, SLOTS), int))
        answers: dict[int, Answer] = {}
        told: set[tuple[int, int]] = set()

        def serve(users: np.ndarray, eligible: np.ndarray) -> Served:
            looked_up = _since(storefront.events(), began)
            told.update(zip(looked_up.user.tolist(), looked_up.item.tolist(), strict=True))
            self._tell(caller, looked_up, {}, f"{tick}-before")
            self._clock.move_to(self._clock.now() + STEP)
            answers.update(self._ask(caller, users, meanwhile))
            fallback = best_items(references.popularity(users), eligible)
            lists, propensity, promised = self._lists(users, answers, fallback)
            self._judge(visits, users, eligible, lists, promised, references)
            return _served(lists, propensity)

        storefront.run_day(serve)
        self._clock.move_to(self._clock.now() + STEP)
        events = _since(storefront.events(), began)
        pairs = zip(events.user.tolist(), events.item.tolist(), strict=True)
        rest = events.where(np.array([pair not in told for pair in pairs], dtype=bool))
        self._tell(caller, rest, answers, f"{tick}-after")
        self._dislike(caller, answers, rest, tick)
        return visits

    def _lists(
        self, users: np.ndarray, answers: dict[int, Answer], fallback: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each user saw: (n, 10) items, propensities and promised P(interacted | served).

        Slots that the service left empty have `fallback` (n, 10), as a shop's page would, and NaN.
        """
        lists = fallback.copy()
        propensity, promised = np.full(lists.shape, np.nan), np.full(lists.shape, np.nan)
        for row, user in enumerate(users.tolist()):
            slots = answers[user]["items"] if user in answers else []
            served = [self._index[slot["item_id"]] for slot in slots]
            others = [item for item in fallback[row].tolist() if item not in served]
            lists[row] = (served + others)[:SLOTS]
            for place, slot in enumerate(slots):
                propensity[row, place] = slot["propensity"]
                promised[row, place] = slot["p_interact"] or np.nan
        return lists, propensity, promised

    def _judge(
        self,
        visits: Visits,
        users: np.ndarray,
        eligible: np.ndarray,
        lists: np.ndarray,
        promised: np.ndarray,
        references: References,
    ) -> None:
        """What only the simulator knows about these lists."""
        storefront = self._shop.storefront
        truth, bias = storefront.crowd.click_probability(users), position_bias(SLOTS)
        shown = np.take_along_axis(truth, lists, axis=1) * bias
        visits.lists = lists
        visits.click_through = {"the service": shown.ravel().tolist()} | {
            name: (np.take_along_axis(truth, items, axis=1) * bias).ravel().tolist()
            for name, items in references.lists(users, eligible, truth).items()
        }
        known = ~np.isnan(promised)
        visits.calibration = np.stack([promised[known], shown[known]])
        for user, items in zip(users.tolist(), lists.tolist(), strict=True):
            who = storefront.user_ids[user]
            ids = [storefront.item_ids[item] for item in items]
            visits.disliked += sum((who, item) in self._disliked for item in ids)
            visits.withdrawn += len(self.withdrawn.intersection(ids))

    # -- over HTTP ---------------------------------------------------------------------------------

    def _ask(
        self, caller: Caller, users: np.ndarray, meanwhile: Callable[[], None]
    ) -> dict[int, Answer]:
        """A list for each user that got one, by the user's number."""
        ids = self._shop.storefront.user_ids

        def ask(user: int) -> Answer | None:
            return None if ids[user] in self.gone else caller.recommend(ids[user], SLOTS)

        half = len(users) // 2
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(ask, users[:half].tolist()))
            meanwhile()
            found += pool.map(ask, users[half:].tolist())
        return {int(u): answer for u, answer in zip(users, found, strict=True) if answer}

    def _tell(self, caller: Caller, events: Events, answers: dict[int, Answer], name: str) -> None:
        """Each user's events in their order; a click names the list that it was on."""
        storefront = self._shop.storefront
        of_user: dict[int, list[Event]] = defaultdict(list)
        rows = zip(events.user, events.item, events.propensity, strict=True)
        for user, item, propensity in rows:
            if storefront.user_ids[user] in self.gone:
                continue
            event = {
                "event_id": f"{name}-{user}-{item}",
                "user_id": storefront.user_ids[user],
                "item_id": storefront.item_ids[item],
                "event_type": "lookup",
            }
            if not np.isnan(propensity):
                event |= {"event_type": "click", "request_id": answers[int(user)]["request_id"]}
            of_user[int(user)].append(event)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(caller.tell, of_user.values()))

    def _dislike(
        self, caller: Caller, answers: dict[int, Answer], clicked: Events, tick: int
    ) -> None:
        """Some visitors say of one thing that they were shown that they do not want it."""
        storefront = self._shop.storefront
        met = set(zip(clicked.user.tolist(), clicked.item.tolist(), strict=True))
        rng = np.random.default_rng([self._seed, tick])
        for user in answers:
            shown = [self._index[slot["item_id"]] for slot in answers[user]["items"]]
            left = [item for item in shown if (user, item) not in met]
            if rng.random() >= DISLIKES or not left:
                continue
            item = storefront.item_ids[left[-1]]
            event = {
                "event_id": f"{tick}-dislike-{user}",
                "user_id": storefront.user_ids[user],
                "item_id": item,
                "event_type": NEGATIVE,
                "request_id": answers[user]["request_id"],
            }
            caller.tell([event])
            self._disliked.add((storefront.user_ids[user], item))


def _since(events: Events, began: int) -> Events:
    return events.where(events.time >= began)


def _served(lists: np.ndarray, propensity: np.ndarray) -> Served:
    scores = np.zeros(lists.shape, np.float32)
    return Served(lists, propensity, scores, np.full(len(lists), "service"))
