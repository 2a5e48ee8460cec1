"""What every reader returns: the tables of one data set under the contracts of `sasrec.schema`."""

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

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
