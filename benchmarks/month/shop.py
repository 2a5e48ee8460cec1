"""The simulated shop in hours of its own: what it sells when, and what it had sold before."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sasrec.data.schema import TIMESTAMP
from sasrec.data.simulated import Storefront
from sasrec.data.simulated.logging_policy import PopularityPolicy

HOUR = 3600 * 1_000_000
DAY = 24 * HOUR
OPENING = int(datetime(2030, 1, 7, tzinfo=UTC).timestamp()) * 1_000_000
"""Midnight before the first day of the month, a Monday, in microseconds."""
FIRST_VISITS = 4 * HOUR  # after midnight; before, the night's run is at work
SESSIONS_PER_DAY = 0.13
LAUNCHING = 0.9


@dataclass(frozen=True)
class Size:
    """How large a month is.

    Attributes:
        users: of the shop.
        history_days: what was sold before the month, from a data set.
        days: of the month.
        ticks: rounds of visits a day; the simulator calls each of them a day.
    """

    users: int
    history_days: int
    days: int
    ticks: int


class Shop:
    """A storefront whose days are rounds of visits.

    Attributes:
        storefront: the simulator; its day is a tick.
    """

    def __init__(self, size: Size, seed: int) -> None:
        self.size = size
        self.storefront = Storefront(
            seed=seed,
            users=size.users,
            # The simulator launches nothing in the last tenth of its days.
            days=round((size.history_days + size.days) * size.ticks / LAUNCHING),
            sessions_per_day=SESSIONS_PER_DAY / size.ticks,
        )

    def open(self, folder: Path) -> None:
        """Let the days before the month pass, and write them as a data set into `folder`."""
        shop = self.storefront
        policy = PopularityPolicy(shop.crowd, np.random.default_rng(shop.seed))
        while shop.day < self.size.history_days * self.size.ticks:
            policy.learn(shop.run_day(policy))
        folder.mkdir(exist_ok=True)
        for name in ("interactions", "impressions"):
            table = getattr(shop, name)()
            place = table.column_names.index("timestamp")
            moved = self._in_shop_time(table["timestamp"])
            pq.write_table(table.set_column(place, "timestamp", moved), folder / f"{name}.parquet")
        items = shop.items()
        known = pc.field("item_id").isin(
            [shop.item_ids[item] for item in self.launched_until(shop.day - 1)]
        )
        created = self._in_shop_time(items["created_at"])
        place = items.column_names.index("created_at")
        pq.write_table(
            items.set_column(place, "created_at", created).filter(known),
            folder / "items.parquet",
        )

    def tick(self, day: int, number: int) -> int:
        """The simulator's day of a round of visits of a day of the month."""
        return (self.size.history_days + day) * self.size.ticks + number

    def begins(self, day: int, number: int) -> int:
        """When a round begins on the shop's clock, in microseconds."""
        between = (DAY - FIRST_VISITS) // self.size.ticks
        return OPENING + day * DAY + FIRST_VISITS + number * between

    def launched_until(self, tick: int) -> list[int]:
        """Numbers of the items that exist in a tick."""
        return np.flatnonzero(self.storefront.catalogue.launch_day <= tick).tolist()

    def launched_in(self, tick: int) -> list[int]:
        """Numbers of the items that are new in a tick."""
        return np.flatnonzero(self.storefront.catalogue.launch_day == tick).tolist()

    def item(self, number: int) -> dict[str, object]:
        """An item as `PUT /v1/items` takes it."""
        catalogue = self.storefront.catalogue
        return {
            "item_id": self.storefront.item_ids[number],
            "title": catalogue.title[number],
            "category": catalogue.category[number],
            "attributes": {"price": float(5 + number % 90)},
        }

    def _in_shop_time(self, times: pa.ChunkedArray) -> pa.Array:
        """The simulator's days are `ticks` to a day of the shop."""
        opened = self.storefront.midnight(self.size.history_days * self.size.ticks)
        simulated = times.cast(pa.int64()).to_numpy()
        moved = OPENING + (simulated - opened) // self.size.ticks
        return pa.array(moved).cast(TIMESTAMP)
