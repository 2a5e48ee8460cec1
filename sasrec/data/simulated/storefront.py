"""Days at the storefront: who comes, what is served, what is logged; and what no log can tell."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import IMPRESSIONS, INTERACTIONS, ITEMS, TIMESTAMP
from sasrec.data.simulated.catalogue import Catalogue
from sasrec.data.simulated.crowd import Crowd, position_bias
from sasrec.data.simulated.logging_policy import PopularityPolicy, Served
from sasrec.data.source import Source

_END = np.datetime64("2025-07-01", "us").astype(np.int64)  # fixed: a seed gives the same bytes
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_MORE_LOOKUPS = 2.6  # mean number in a session, after the first

Policy = Callable[[np.ndarray, np.ndarray], Served]
"""(users (n,), eligible (n, I) bool) -> lists; asked once for each day's sessions."""


@dataclass(frozen=True)
class Events:
    """What was met, user by user, oldest first; all arrays are (N,).

    Attributes:
        user, item: numbers, as in `Storefront.user_ids` and `Storefront.item_ids`.
        time: microseconds since the epoch.
        propensity: of the slot that was clicked; NaN for an item that the user looked up.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    propensity: np.ndarray

    def where(self, rows: np.ndarray) -> "Events":
        """The events of a mask (N,) or of row numbers, in their order."""
        return Events(self.user[rows], self.item[rows], self.time[rows], self.propensity[rows])


class Storefront:
    """A crowd, a catalogue and a clock: the source of the default data set, and an environment.

    A session opens with an item the user looks up; then a list is served and each slot is clicked
    or not; then the user looks up some more. Everything depends on `seed` and on what is served.

    Args:
        seed: of everything.
        users: U.
        days: length of the log that `source` returns.
        sessions_per_day: of the median user; others differ by a log-normal factor.
        lookups: share of sessions in which the user looks things up; in the others there is the
            list alone, and the less is looked up, the more a policy feeds on its own choices.

    Attributes:
        catalogue, crowd: what is sold, and who looks; item and user numbers index their arrays.
        item_ids, user_ids: the ids of those numbers in the tables.
        day: the day that runs next, from 0.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        users: int = 2500,
        days: int = 60,
        sessions_per_day: float = 0.13,
        lookups: float = 1.0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self.seed = seed
        self.days = days
        self._lookups = lookups
        self.day = 0
        self.catalogue = Catalogue.generate(self._rng, days=days)
        self.crowd = Crowd(self.catalogue, users, self._rng)
        rate = sessions_per_day * self._rng.lognormal(0, 0.5, users)
        self._sessions_per_day = np.minimum(rate, 0.9)
        late = self._rng.random(users) < 0.3
        self._joined = np.where(late, self._rng.integers(0, int(0.8 * days), users), 0)
        self.user_ids = _ids("u", np.arange(users)).to_pylist()
        self.item_ids = _ids("i", np.arange(len(self.catalogue))).to_pylist()
        self._interactions = _Columns("user", "item", "time", "propensity", "best_rank")
        self._impressions = _Columns(
            "request", "user", "item", "position", "time", "policy", "score", "propensity",
            "candidates", "reward", "probability",
        )  # fmt: skip

    def run_day(self, serve: Policy) -> np.ndarray:
        """Let a day pass with `serve` filling the lists; all of it is logged.

        Returns:
            The items interacted with today, (n,) int.
        """
        rows_before = len(self._interactions)
        present = self._rng.random(self.crowd.users) < self._sessions_per_day
        users = np.flatnonzero(present & (self._joined <= self.day))
        self.crowd.begin_sessions(users)
        clock = self.midnight(self.day) + self._rng.integers(0, 20 * 3600, len(users)) * _SECOND
        looking = self._rng.random(len(users)) < self._lookups
        self._look_up(users[looking], clock[looking])
        clock = self._serve(users, clock + self._pauses(len(users)), serve)
        more = looking * (self._rng.geometric(1 / (1 + _MORE_LOOKUPS), len(users)) - 1)
        while more.any():
            stay = more > 0
            users, clock, more = users[stay], clock[stay], more[stay] - 1
            clock = clock + self._pauses(len(users))
            self._look_up(users, clock)
        self.day += 1
        return self._interactions.since(rows_before, "item")

    def midnight(self, day: int) -> int:
        """The instant at which a day begins, in microseconds since the epoch."""
        return int(_END) - (self.days - day) * _DAY

    def source(self) -> Source:
        """The log after `days` days; those not yet run are run under the logging policy."""
        policy = PopularityPolicy(self.crowd, self._rng)
        while self.day < self.days:
            policy.learn(self.run_day(policy))
        return Source(
            name="simulated",
            interactions=self.interactions(),
            items=self.items(),
            impressions=self.impressions().select(IMPRESSIONS.names),
            notes=[
                f"simulated storefront, seed {self.seed}: not real people; figures on it say "
                "that the system works, nothing about how well it would do elsewhere"
            ],
        )

    def best_ndcg(self, targets: pa.Table, *, k: int = 10) -> float:
        """The NDCG@k of a scorer that knows the true distribution of each user's next item.

        It knows the user's taste, which a model has to infer from the history, and ranks every
        launched item the user has not met. With one relevant item NDCG is 1 / log2(1 + rank).

        Args:
            targets: `user_id`, `timestamp` of looked-up events of this log, one per user, as the
                first of each user in a split's fold; clicked ones, which depend on what was
                served, are left out.
        """
        log = self._in_time_order(self._interactions)
        truth = pa.table(
            {
                "user_id": _ids("u", log["user"]),
                "timestamp": pa.array(log["time"]).cast(TIMESTAMP),
                "rank": log["best_rank"],
            }
        ).filter(pa.array(np.isnan(log["propensity"])))
        rank = targets.join(truth, ["user_id", "timestamp"], join_type="inner")["rank"].to_numpy()
        return float(np.where(rank <= k, 1 / np.log2(1 + rank), 0.0).mean())

    # -- the log, in two forms ---------------------------------------------------------------------

    def events(self) -> Events:
        """Everything met until now, as numbers: what a model learns from and is asked about."""
        log = self._interactions.arrays()
        order = np.lexsort((log["time"], log["user"]))
        return Events(*(log[name][order] for name in ("user", "item", "time", "propensity")))

    def items(self) -> pa.Table:
        """Every item, launched or not yet; schema `ITEMS`."""
        launch = _END + (self.catalogue.launch_day - self.days) * _DAY
        return pa.table(
            [
                self.item_ids,
                self.catalogue.title,
                self.catalogue.category,
                pa.array(launch).cast(TIMESTAMP),
            ],
            schema=ITEMS,
        )

    def interactions(self) -> pa.Table:
        """What was logged until now, oldest first; schema `INTERACTIONS`."""
        log = self._in_time_order(self._interactions)
        rows = len(log["time"])
        return pa.table(
            [
                _ids("u", log["user"]),
                _ids("i", log["item"]),
                pa.array(log["time"]).cast(TIMESTAMP),
                pa.array(np.where(np.isnan(log["propensity"]), "lookup", "click")),
                pa.nulls(rows, pa.float32()),
                pa.array(np.arange(rows)),
            ],
            schema=INTERACTIONS,
        )

    def impressions(self) -> pa.Table:
        """Every slot served until now, oldest first; schema `IMPRESSIONS`.

        One free column, `true_probability`: the P(interacted | served) that no real log holds.
        """
        log = self._in_time_order(self._impressions)
        rows = len(log["time"])
        return pa.table(
            {
                "request_id": _ids("r", log["request"]),
                "user_id": _ids("u", log["user"]),
                "item_id": _ids("i", log["item"]),
                "position": log["position"].astype(np.int16),
                "timestamp": pa.array(log["time"]).cast(TIMESTAMP),
                "policy": pa.array(log["policy"]),
                "model_version": pa.repeat("storefront", rows),
                "score": log["score"],
                "propensity": log["propensity"],
                "candidates": log["candidates"].astype(np.int32),
                "reward": log["reward"].astype(np.float32),
                "true_probability": log["probability"].astype(np.float32),
            }
        ).cast(pa.schema([*IMPRESSIONS, pa.field("true_probability", pa.float32())]))

    # -- one session, step by step -------------------------------------------------------------

    def _look_up(self, users: np.ndarray, clock: np.ndarray) -> None:
        """Each user picks the next item from the whole shop."""
        log_odds = self.crowd.next_item_log_odds(users, self.day)
        items = np.argmax(log_odds + self._rng.gumbel(size=log_odds.shape), axis=1)
        chosen = np.take_along_axis(log_odds, items[:, None], axis=1)
        best_rank = 1 + (log_odds > chosen).sum(axis=1)
        self.crowd.record(users, items)
        self._interactions.append(users, items, clock, np.full(len(users), np.nan), best_rank)

    def _serve(self, users: np.ndarray, clock: np.ndarray, serve: Policy) -> np.ndarray:
        """Serve a list to each user, log every slot, and record the clicks; the time after it."""
        eligible = self.crowd.eligible(users, self.day)
        lists = serve(users, eligible)
        n, slots = lists.items.shape
        probability = np.take_along_axis(self.crowd.click_probability(users), lists.items, axis=1)
        probability = probability * position_bias(slots)
        clicks = self._rng.random((n, slots)) < probability
        first_request = len(self._impressions) // slots
        position = np.arange(slots)
        self._impressions.append(
            *(np.repeat(column, slots) for column in (first_request + np.arange(n), users)),
            lists.items.ravel(),
            np.tile(position, n),
            np.repeat(clock, slots),
            np.repeat(lists.policy, slots),
            lists.score.ravel(),
            lists.propensity.ravel(),
            (eligible.sum(axis=1)[:, None] - position).ravel(),
            clicks.ravel(),
            probability.ravel(),
        )
        for slot in position:
            clicked = clicks[:, slot]
            clock = clock + np.where(clicked, 5 * _SECOND, 0)
            who, what = users[clicked], lists.items[clicked, slot]
            self.crowd.record(who, what)
            self._interactions.append(
                who,
                what,
                clock[clicked],
                lists.propensity[clicked, slot],
                np.zeros(len(who), dtype=np.int64),
            )
        return clock

    def _pauses(self, n: int) -> np.ndarray:
        """(n,) microseconds between two steps of a session: 10 s to 2 min."""
        return self._rng.integers(10, 120, n) * _SECOND

    @staticmethod
    def _in_time_order(log: "_Columns") -> dict[str, np.ndarray]:
        columns = log.arrays()
        order = np.argsort(columns["time"], kind="stable")
        return {name: column[order] for name, column in columns.items()}


class _Columns:
    """A table that grows by whole arrays."""

    def __init__(self, *names: str) -> None:
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def append(self, *arrays: np.ndarray) -> None:
        for parts, array in zip(self._parts.values(), arrays, strict=True):
            parts.append(array)
        self._rows += len(arrays[0])

    def since(self, row: int, name: str) -> np.ndarray:
        return np.concatenate(self._parts[name])[row:]

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def _ids(prefix: str, numbers: np.ndarray) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 5, "0")
    return pc.binary_join_element_wise(prefix, digits, "")
