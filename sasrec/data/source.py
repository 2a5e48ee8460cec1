"""What every reader returns: one data set's tables under the contracts of `sasrec.data.schema`."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from sasrec.data.schema import TIMESTAMP
from sasrec.errors import DataError

Clock = Literal["real", "row-order"]


@dataclass(frozen=True)
class Source:
    """One data set as read, before cleaning.

    Attributes:
        name: the data set's name, or the path it was read from.
        interactions: schema `INTERACTIONS`; rows in the order of the source.
        items: schema `ITEMS`, free columns after it; at least every item of `interactions`.
        impressions: schema `IMPRESSIONS`; no rows when the source logs none.
        clock: "real", or "row-order" when the source has an order but no time.
        notes: what the reader found out or decided, one sentence each, for the data report.
    """

    name: str
    interactions: pa.Table
    items: pa.Table
    impressions: pa.Table
    clock: Clock = "real"
    notes: list[str] = field(default_factory=list)

    def before(self, moment: datetime) -> "Source":
        """What a reader would have found at `moment`: what happened and what existed before it.

        Raises:
            DataError: the source has an order but no time, or nothing had happened yet.
        """
        if self.clock != "real":
            raise DataError(f"{self.name}: rows have an order but no time; leave out data.as_of")
        limit = pa.scalar(moment, TIMESTAMP)
        interactions = self.interactions.filter(pc.less(self.interactions["timestamp"], limit))
        if not interactions.num_rows:
            first = pc.min(self.interactions["timestamp"]).as_py()
            raise DataError(
                f"{self.name}: no interactions before {moment}; the first is at {first}"
            )
        existed = pc.less(self.items["created_at"], limit).fill_null(True)
        used = pc.is_in(self.items["item_id"], interactions["item_id"].unique())
        return replace(
            self,
            interactions=interactions,
            items=self.items.filter(pc.or_(existed, used)),
            impressions=self.impressions.filter(pc.less(self.impressions["timestamp"], limit)),
            notes=[*self.notes, f"Only what happened before {moment} is used."],
        )
